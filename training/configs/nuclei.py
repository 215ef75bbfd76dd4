"""A U-Net on microscope pictures of cell nuclei: the bundled segmentation model.

Commands: python -m training fit nuclei
          python -m training export runs/nuclei/best.pt --precision w16
Cost: 16 epochs of three minutes on one core.
Result: nucleus has Dice 0.911 and IoU 0.837 in the 99 test pictures, at the masks' own sizes (mIoU
0.904; on validation, where the epoch was chosen, 0.904 at the network's size).
"""

from training.config import Config
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

CONFIG = Config(
    name="nuclei",
    architecture="unet",
    options={"width": 16},
    task="segmentation",
    labels=("background", "nucleus"),
    data="segmentation/nuclei",
    source="Data Science Bowl 2018, corrected (BBBC038; Caicedo et al. 2019; CC0)",
    # Stained and bright-field pictures are inverted, so that nuclei are bright in all of them.
    input=Input("RGB", 256, 256, None, None, mean=(0.1,) * 3, std=(0.2,) * 3, dark_on_light=True),
    epochs=16,
    passes=3,
    batch_size=8,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-3,
    schedule="onecycle",
    warmup=0.1,
    average=0.99,
    clip=5.0,
    augment=Augmentation(
        turn=True, rotate=20, scale=0.3, brightness=0.25, noise=0.01, padding="reflection", crop=128
    ),
)
