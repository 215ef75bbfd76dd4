"""ResNet-18 fine-tuned on pediatric chest X-rays, NORMAL against PNEUMONIA: a worked example.

Command: python -m training fit chest_xray
"""

from training.augment import Augment
from training.config import Config
from training.pictures import Input

CONFIG = Config(
    name="chest_xray",
    architecture="resnet18",
    data="chest_xray",
    source="Chest X-ray images (Kermany et al. 2018; CC BY 4.0), split by patient",
    license="non-commercial: started from ResNet-18 weights under such a license",
    input=Input(height=128, width=128, resize=128),
    weights="weights/resnet18_imagenet.npz",
    epochs=4,
    batch_size=64,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-2,
    schedule="onecycle",
    class_weights=True,
    freeze_epochs=1,
    body_rate=0.2,
    dropout=0.2,
    augment=Augment(shift=0.06, rotate=7, scale=0.1, flip=True, brightness=0.15, padding="border"),
    precision="bf16",
    channels_last=True,
)
