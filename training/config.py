"""The settings of a training run. Knows nothing of the files that hold them, or of the loop."""

import dataclasses
import os
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input
from training.validation import CHECKED, Settings

CLASS_MEASURES = ("loss", "accuracy", "macro_f1", "macro_roc_auc")
MEASURES = {  # of the validation split, by which the best epoch may be chosen
    "multiclass": CLASS_MEASURES,
    "multilabel": (*CLASS_MEASURES, "mean_average_precision"),
    "segmentation": ("loss", "accuracy", "miou"),
}

DEFAULT_CACHE = 4.0  # gigabytes

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Device = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, mps, cuda or cuda:<index>",
    ),
]


@dataclass(frozen=True, config=CHECKED)
class Config(Settings):
    """The settings of one training run. All fields but the first four have working defaults."""

    name: str  # of the model, and of its folder in the model repository
    architecture: str  # "lenet5", a torchvision classifier, "timm:<name>", "package.module:build"
    data: str  # "mnist", or a folder of images: <split>/<label>/*, or <label>/* to be split
    input: Input
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the architecture
    source: str = ""  # the data set's name and license, for the card
    license: str = "Apache-2.0"  # of the model file
    layer: str | None = None  # Grad-CAM's target layer; None: the architecture's own

    task: Literal["multiclass", "multilabel", "segmentation"] = "multiclass"
    labels: tuple[str, ...] = ()  # segmentation: the names of the masks' values 0, 1, …
    one_neuron: bool = False  # two classes by one sigmoid neuron
    validation: Fraction = 0.1  # share of training to hold out if the data set has no such split
    test: Fraction = 0.2  # the same for the test split of a folder without splits
    group: str = ""  # a column of the CSV, or a regular expression on the path of a picture
    folds: Count = 0  # cross-validation: `validation` is then part `fold` of so many parts
    fold: Count = 0
    skip_unreadable: bool = False  # leave out pictures that cannot be decoded
    skip_duplicates: bool = False  # leave out copies of pictures of another split
    cache: NotNegative = DEFAULT_CACHE  # of decoded pictures on the disk; 0: decode each time
    workers: Count | None = None  # processes that load pictures; None: 0 for a CPU, else up to 8
    seed: Seed = 0

    epochs: AtLeastOne = 30
    passes: AtLeastOne = 1  # over the training pictures in each epoch
    batch_size: AtLeastOne = 128
    accumulate: AtLeastOne = 1  # batches whose gradients make one step of the optimizer
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 0.0
    norm_decay: bool | None = None  # decay norms and biases, too; None: unless there are weights
    l1: NotNegative = 0.0
    schedule: Literal["constant", "step", "cosine", "exponential", "onecycle"] = "onecycle"
    warmup: Fraction = 0.0  # share of the steps; onecycle: the length of its rise (0: 0.3)
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    class_weights: bool = False  # weight each class by the inverse of its frequency
    clip: NotNegative = 0.0  # largest gradient norm; 0: no limit
    average: Fraction = 0.0  # decay of the moving average of the weights; 0: no average
    best: str | None = None  # one of MEASURES; None: the loss, or the mIoU of masks
    patience: Count = 0  # stop after this many epochs without a better epoch; 0: never
    augment: Augmentation = field(default_factory=Augmentation)

    weights: str | None = None  # a file, or "torchvision"
    dropout: Fraction = 0.0  # before the last linear layer
    freeze_epochs: Count = 0  # epochs that train only the new head
    body_rate: NotNegative = 1.0  # learning rate of the body as a share of the head's
    layer_decay: Share = 1.0  # of the learning rate, once more for each stage below the head

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False  # train a network that torch.compile has translated
    sync_batch_norm: bool = False  # statistics of the whole batch, on several GPUs
    channels_last: bool = False
    device: Device = "auto"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Config":
        fields = dict(fields)
        fields["input"] = Input(**{k: to_tuple(v) for k, v in fields["input"].items()})
        fields["augment"] = Augmentation(**fields["augment"])
        fields["labels"] = to_tuple(fields.get("labels", ()))
        return cls(**fields)


def get_data_folder() -> Path:
    """The folder of data sets and weights: $SIGHTGLASS_DATA, or else ./data."""
    return Path(os.environ.get("SIGHTGLASS_DATA") or "data")


def resolve_path(name: str) -> Path:
    """The path as given if it exists, or else the path inside the data folder."""
    path = Path(name)
    return path if path.exists() else get_data_folder() / name


def to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
