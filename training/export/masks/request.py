"""The request to export a segmentation network, and its checks before any work is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.artifact.card import ModelInfo
from training.artifact.palette import find_background
from training.data.mask_folder import MaskSplit
from training.errors import UserError
from training.evaluate.explanations import DEFAULT_MAPS
from training.export.request import check_name_and_maps
from training.gradcam.masks.reference import MASK_METHODS
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

AUTO = "auto"
DEFAULT_METHOD = "seg-hirescam"
PRECISIONS = ("fp32", "w16")
MAX_PROBABILITIES = 16 * 2**20  # bytes of a picture's probabilities


@dataclass(frozen=True)
class MaskExportRequest:
    """A segmentation network, what is known of it, and how it shall be exported."""

    info: ModelInfo
    model: Classifier  # with its weights; export may fuse and round them in place
    layer: str  # "auto" chooses the most faithful layer on `test`
    samples: Pixels  # (N, H, W, C), two at least, for the checks and golden tests
    repository: Path
    version: int | None = None  # None: the next free one
    method: str = DEFAULT_METHOD  # "auto" chooses the more faithful one on `test`
    precision: str = "fp32"
    test: MaskSplit | None = None  # metrics and maps are measured on it
    measured_on: str = "the test split"  # what `test` is, for the card
    caution: str = ""  # why the figures of `test` may be too good, for the card
    unmeasured: str = ""  # why there is no `test`, for the card
    maps: int = DEFAULT_MAPS  # number of pictures to measure the maps on; 0: none
    private: bool = False  # show no pictures in the report
    history: Sequence[dict[str, float]] = ()  # of the training, one entry per epoch
    say: Callable[[str], None] = print  # reports progress

    @property
    def background(self) -> int | None:
        return find_background(self.info.labels)


def check_mask_request(request: MaskExportRequest) -> None:
    """Raise UserError for a request that is not valid."""
    check_name_and_maps(request.info.name, request.maps)
    if request.method not in (*MASK_METHODS, AUTO):
        raise UserError(
            f"--method must be {', '.join(MASK_METHODS)} or auto for masks, got {request.method!r}."
        )
    if request.precision not in PRECISIONS:
        raise UserError(
            f"--precision {request.precision} is not offered for masks. Take fp32 or w16."
        )
    spec, classes = request.info.input, len(request.info.labels)
    size = 4 * classes * spec.height * spec.width
    if size > MAX_PROBABILITIES:
        raise UserError(
            f"The probabilities of a picture would take {size / 2**20:.0f} MiB "
            f"({classes} labels x {spec.height} x {spec.width} numbers), at most "
            f"{MAX_PROBABILITIES // 2**20} MiB are accepted. Take a smaller input or fewer labels."
        )
    if AUTO in (request.layer, request.method) and request.test is None:
        raise UserError(
            "--layer auto and --method auto need pictures with masks. Give a folder of them with "
            "--pictures."
        )
