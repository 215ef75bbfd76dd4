"""ResNet-18 from ImageNet's weights on chest X-rays of children: normal, or pneumonia?

Command: python -m training fit xray
Cost: four epochs of about two and a half minutes of one busy core.
Result: it has not been run to its end. At 64 x 64 for three epochs, one run each, on validation:
95.9 %, from scratch 95.0 %, and 91.9 % if the head learns alone first and the rest at a tenth of
the rate (with `--set weights=weights/resnet18_imagenet.npz`).
"""

from training.config import Config
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

CONFIG = Config(
    name="xray",
    architecture="resnet18",
    data="chest_xray",
    source="Chest X-rays of children (Kermany et al. 2018; CC BY 4.0)",
    license="as the weights it starts from",
    input=Input("RGB", 160, 160, 160),
    weights="torchvision",
    one_neuron=True,
    class_weights=True,
    epochs=4,
    batch_size=32,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    average=0.99,
    augment=Augmentation(shift=0.05, rotate=7, scale=0.1, brightness=0.15),
    precision="bf16",
    channels_last=True,
)
