"""LeNet-5 with sigmoids and average pooling on MNIST: the bundled digit model.

Command: python -m training fit lenet5
Cost: 45 epochs of 8 s of CPU.
Result: 99.41 % of the 10,000 test digits (99.28 % on validation, where the epoch was chosen), and
99.5 % of them redrawn with dark ink on gray paper: without `fade` and `noise` it would be 54 %.
"""

from training.config import Config
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

CONFIG = Config(
    name="lenet5",
    architecture="lenet5",
    data="mnist",
    source="MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0)",
    # No mean: an empty field stays 0, as the convolution's own padding is.
    input=Input("L", 28, 28, 28, mean=(0.0,), std=(0.3081,), dark_on_light=True),
    validation=0.1,
    epochs=45,
    optimizer="adamw",
    learning_rate=1e-2,
    weight_decay=1e-3,
    schedule="onecycle",
    average=0.999,
    augment=Augmentation(
        shift=0.06, rotate=8, scale=0.1, shear=0.1, elastic=0.03, fade=0.3, noise=0.05
    ),
)
