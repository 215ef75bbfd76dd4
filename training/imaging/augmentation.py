"""The settings of augmentation: what is changed at random in the pictures of training, and how far.

`picture_transforms` and `distortion` make the changes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from training.validation import CHECKED, Settings

Strength = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=CHECKED)
class Augmentation(Settings):
    """The strength of each augmentation. With all at zero, pictures stay as they are."""

    PREFIX: ClassVar[str] = "augment."

    resized_crop: Share = 0.0  # 0.3: cut out 30 to 100 % of the whole picture; 0: as in evaluation
    crop: Annotated[int, Field(ge=0)] = 0  # train on random square cuts of this side; 0: on all
    flip: bool = False  # mirror left and right
    turn: bool = False  # quarter turns and both flips, for pictures without an upright direction
    rand_augment: Annotated[int, Field(ge=0, le=30)] = 0  # magnitude of two random changes
    trivial_augment: bool = False  # one random change of random magnitude
    shift: Share = 0.0  # at most this share of the side
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0.1: between 0.9 and 1.1
    shear: Strength = 0.0
    padding: Literal["zeros", "border", "reflection"] = "zeros"
    brightness: Share = 0.0  # 0.2: brightness and contrast between 0.8 and 1.2
    elastic: Strength = 0.0  # of the side
    fade: Share = 0.0  # 0.3: move black and white up to 0.3 of the range inwards, as on gray paper
    noise: Share = 0.0  # largest standard deviation, as a share of the range
    erase: Share = 0.0  # share of the pictures of which a rectangle is erased
    mixup: Strength = 0.0  # alpha of the Beta distribution that two pictures are mixed by
    cutmix: Strength = 0.0  # the same for a rectangle of one picture in another

    @property
    def moves(self) -> bool:
        """Whether pictures are shifted, turned, scaled or sheared."""
        return bool(self.shift or self.rotate or self.scale or self.shear)

    def find_clash(self, masks: bool, mixable: bool) -> str:
        """The sentence for settings that do not suit the task; empty if all do.

        `masks`: whether labels are masks. `mixable`: whether the loss takes a share of each class.
        """
        if self.crop and not masks:
            return (
                f"augment.crop={self.crop} is for task=segmentation, whose masks are cut along "
                "with their pictures. Set it to 0, or use augment.resized_crop."
            )
        if self.crop and self.resized_crop:
            return "augment.crop and augment.resized_crop cannot be combined. Remove one of them."
        if self.rand_augment and self.trivial_augment:
            return (
                "augment.rand_augment and augment.trivial_augment cannot be combined. "
                "Remove one of them."
            )
        for name in ("rand_augment", "trivial_augment", "erase"):
            if masks and getattr(self, name):
                return f"augment.{name} changes no masks, so task=segmentation cannot use it."
        for name in ("mixup", "cutmix"):
            if getattr(self, name) and not mixable:
                return (
                    f"augment.{name} needs task=multiclass with loss=cross_entropy and without "
                    f"one_neuron. Set augment.{name} to 0."
                )
        return ""
