"""ResNet-18 from ImageNet's weights on chest X-rays of children: normal, or pneumonia?

Command: python -m training fit xray
Cost: four epochs of two and a half minutes of one busy core.
Result: balanced accuracy 96.9 % of the 874 test pictures (95 %: 95.4 to 98.0), ROC-AUC 0.997 (0.994
to 0.999), sensitivity 96.4 %, specificity 97.5 % (`--set weights=weights/resnet18_imagenet.npz`).
From scratch (`--set weights=None`) balanced accuracy 95.9 % (94.4 to 97.0), ROC-AUC 0.994.
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
