"""The request to export a network: what is exported, how, and what it is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.artifact.card import ModelInfo
from training.config_file import MODEL_NAME
from training.data.datasets import Split
from training.errors import UserError
from training.evaluate.explanations import DEFAULT_MAPS
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

AUTO = "auto"  # as a precision: the fastest file within bounds on `test`
CALIBRATED = ("int8", AUTO)  # precisions that need pictures to calibrate on
MIN_HELD_OUT = 100  # pictures, to judge a precision on


@dataclass(frozen=True)
class ExportRequest:
    """A network, what is known of it, and how it shall be exported."""

    info: ModelInfo
    model: Classifier  # with its weights; export may fuse and round them in place
    layer: str  # "auto" chooses the most faithful layer on `test`
    samples: Pixels  # (N, H, W, C), two at least, for the checks and golden tests
    repository: Path
    version: int | None = None  # None: the next free one
    method: str = "gradcam"  # or "hirescam"; "auto" chooses the more faithful one on `test`
    precision: str = "fp32"
    calibration: Pixels | None = None  # pictures for the ranges of int8 and the usual features
    validation: Split | None = None  # a temperature is fitted on it
    test: Split | None = None  # metrics and maps are measured on it
    measured_on: str = "the test split"  # what `test` is, for the card
    caution: str = ""  # why the figures of `test` may be too good, for the card
    unmeasured: str = ""  # why there is no `test`, for the card
    maps: int = DEFAULT_MAPS  # number of pictures to measure the maps on; 0: none
    unlike: Sequence[str] = ()  # folders of pictures unlike the model's
    familiarity: bool = False  # try pooled features of `calibration`, to notice such pictures
    private: bool = False  # show no pictures in the report
    history: Sequence[dict[str, float]] = ()  # of the training, one entry per epoch
    say: Callable[[str], None] = print  # reports progress

    @property
    def multilabel(self) -> bool:
        return self.info.task == "multilabel"


def check_name_and_maps(name: str, maps: int) -> None:
    """Raise UserError for a name that no folder of models may have, or a number below 0."""
    if not MODEL_NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a valid model name. Use a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or digit."
        )
    if maps < 0:
        raise UserError(f"--maps must be 0 or more, got {maps}.")


def check_request(request: ExportRequest) -> None:
    """Raise UserError for a request that is not valid, before any work is done."""
    check_name_and_maps(request.info.name, request.maps)
    calibration = request.calibration
    if request.familiarity and (calibration is None or not len(calibration)):
        raise UserError(
            "--familiarity needs real pictures to learn the usual features from. Give a folder of "
            "them with --pictures."
        )
    if request.precision in CALIBRATED and (calibration is None or not len(calibration)):
        raise UserError(
            f"{request.precision} must be calibrated on real pictures. Give a folder of them with "
            "--pictures."
        )
    held_out = 0 if request.test is None else len(request.test)
    if request.precision == AUTO and held_out < MIN_HELD_OUT:
        raise UserError(
            f"--precision auto needs at least {MIN_HELD_OUT} held-out pictures with labels, but "
            f"there are {held_out}. Give more of them, or name a precision."
        )
