"""The settings of a training run, and the Python files that hold them.

The docstring of a config file states its command, cost and result. Its `CONFIG` holds the settings.
Knows nothing of the training loop.
"""

import ast
import dataclasses
import os
import re
import runpy
import traceback
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field
from pydantic.dataclasses import dataclass

from training.errors import UserError
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input
from training.validation import CHECKED, Settings, describe_unknown, describe_value

CONFIGS = Path(__file__).parent / "configs"
MAX_MASK_CLASSES = 255  # a mask is 8 bits, and one value is ignored
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
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
    cache: NotNegative = 4.0  # gigabytes of decoded pictures on the disk; 0: decode each time
    workers: Count | None = None  # processes that load pictures; None: 0, or on CUDA one per core
    seed: Seed = 0

    epochs: AtLeastOne = 30
    passes: AtLeastOne = 1  # over the training pictures in each epoch
    batch_size: AtLeastOne = 128
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 0.0
    l1: NotNegative = 0.0
    schedule: Literal["constant", "step", "cosine", "exponential", "onecycle"] = "onecycle"
    warmup: Fraction = 0.0  # share of the steps; onecycle: the length of its rise (0: 0.3)
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    class_weights: bool = False  # weight each class by the inverse of its frequency
    clip: NotNegative = 0.0  # largest gradient norm; 0: no limit
    average: Fraction = 0.0  # decay of the moving average of the weights; 0: no average
    patience: Count = 0  # stop after this many epochs without a lower validation loss; 0: never
    augment: Augmentation = field(default_factory=Augmentation)

    weights: str | None = None  # a file, or "torchvision"
    dropout: Fraction = 0.0  # before the last linear layer
    freeze_epochs: Count = 0  # epochs that train only the new head
    body_rate: NotNegative = 1.0  # learning rate of the body as a share of the head's

    precision: Literal["fp32", "bf16"] = "fp32"
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


def load_config(name: str, changes: list[str] | None = None) -> Config:
    """The config of a Python file, or of a name in `training/configs`, with `key=value` changes.

    Raises:
        UserError: there is no such config, it has no `CONFIG`, or a setting is not valid.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = CONFIGS / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("[a-z]*.py")))
        raise UserError(f"There is no config {name!r}. Give a Python file or one of: {known}.")
    config = apply_changes(run_config_file(path), changes or [])
    check_combinations(config)
    return config


def run_config_file(path: Path) -> Config:
    """The `CONFIG` of a Python file. An error in the file is reported with its line."""
    try:
        config = runpy.run_path(str(path)).get("CONFIG")
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:  # the file is the user's program
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{where}: {what}") from error
    if not isinstance(config, Config):
        raise UserError(f"{path} does not define `CONFIG = Config(...)`.")
    return config


def apply_changes(config: Config, changes: list[str]) -> Config:
    """The config with `key=value` changes; keys may be `input.…`, `augment.…` and `options.…`."""
    kinds = get_type_hints(Config)
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set must be key=value, got {change!r}.")
        outer, _, inner = key.partition(".")
        if outer not in vars(config):
            raise UserError(describe_unknown("setting", outer, vars(config)))
        if not inner:
            values[outer] = parse_value(text, kinds[outer])
            continue
        part = values.get(outer, getattr(config, outer))
        if not isinstance(part, dict | Settings):
            raise UserError(f"`{outer}` has no parts. Set it with --set {outer}=<value>.")
        if isinstance(part, dict):
            values[outer] = {**part, inner: parse_value(text)}
        else:
            kind = get_type_hints(type(part)).get(inner)
            values[outer] = dataclasses.replace(part, **{inner: parse_value(text, kind)})
    return dataclasses.replace(config, **values)


def parse_value(text: str, kind: Any = None) -> Any:
    """The value of `--set`: a Python literal, or text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return text if kind is str and not isinstance(value, str) else to_tuple(value)


def to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_combinations(config: Config) -> None:
    """Refuse settings that are valid alone but not together, and a name that cannot be exported.

    Checkpoints are not checked again: they must load as they are.
    """
    if not MODEL_NAME.fullmatch(config.name):
        accepted = "of a-z, 0-9, '.', '_' and '-' and begin with a letter or digit"
        raise UserError(describe_value("name", accepted, config.name))
    channels = config.input.channels
    for name in ("mean", "std"):
        if len(getattr(config.input, name)) != channels:
            accepted = f"{channels} number{'s'[: channels - 1]} for mode {config.input.mode}"
            raise UserError(describe_value(f"input.{name}", accepted, getattr(config.input, name)))
    multilabel = config.task == "multilabel"
    if multilabel and not config.data.endswith(".csv"):
        raise UserError(
            "task=multilabel needs a CSV file with a column of 0 and 1 per label, "
            f"got data={config.data!r}."
        )
    check_segmentation(config)
    segmentation = config.task == "segmentation"
    mixable = (config.task, config.loss, config.one_neuron) == (
        "multiclass",
        "cross_entropy",
        False,
    )
    if clash := config.augment.find_clash(segmentation, mixable):
        raise UserError(clash)
    clashes = {
        "task=segmentation and one_neuron": segmentation and config.one_neuron,
        "loss=focal and task=segmentation": config.loss == "focal" and segmentation,
        "task=multilabel and one_neuron": multilabel and config.one_neuron,
        "loss=focal and task=multilabel": config.loss == "focal" and multilabel,
        "loss=focal and one_neuron": config.loss == "focal" and config.one_neuron,
        "label_smoothing and loss=focal": config.label_smoothing > 0 and config.loss == "focal",
        "label_smoothing and task=multilabel": config.label_smoothing > 0 and multilabel,
    }
    for names, found in clashes.items():
        if found:
            raise UserError(f"{names} cannot be combined. Remove one of them.")


def check_segmentation(config: Config) -> None:
    """Refuse settings that suit only masks, or that masks lack."""
    if config.task != "segmentation":
        if config.labels:
            raise UserError(
                f"labels={config.labels!r} is for task=segmentation. Other data name their own."
            )
        return
    accepted = "two to 255 different names, one for each value of the masks"
    if not 2 <= len(config.labels) <= MAX_MASK_CLASSES or len({*config.labels}) < len(
        config.labels
    ):
        raise UserError(describe_value("labels", accepted, config.labels))
