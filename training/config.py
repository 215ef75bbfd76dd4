"""The settings of a training run, and the Python files that hold them.

The docstring of a config file states its command, cost and result. Its `CONFIG` holds the settings.
Knows nothing of the training loop.
"""

import ast
import dataclasses
import os
import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import UserError
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Config:
    """The settings of one training run. All fields but the first four have working defaults."""

    name: str  # of the model, and of its folder in the model repository
    architecture: str  # "lenet5", a torchvision classifier, "timm:<name>", "package.module:build"
    data: str  # "mnist", or a folder of images: <split>/<label>/*, or <label>/* to be split
    input: Input
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the architecture
    source: str = ""  # the data set's name and license, for the card
    license: str = "Apache-2.0"  # of the model file
    layer: str | None = None  # Grad-CAM's target layer; None: the architecture's own

    task: str = "multiclass"  # or "multilabel"
    one_neuron: bool = False  # two classes by one sigmoid neuron
    validation: float = 0.1  # share of training to hold out if the data set has no such split
    test: float = 0.2  # the same for the test split of a folder without splits
    seed: int = 0

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "adam"  # adam, adamw, sgd, rmsprop
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    l1: float = 0.0
    schedule: str = "onecycle"  # constant, step, cosine, exponential, onecycle
    warmup: float = 0.0  # share of the steps; onecycle: the length of its rise (0: 0.3)
    loss: str = "cross_entropy"  # or "focal"
    label_smoothing: float = 0.0
    class_weights: bool = False  # weight each class by the inverse of its frequency
    clip: float = 0.0  # largest gradient norm; 0: no limit
    average: float = 0.0  # decay of the moving average of the weights; 0: no average
    patience: int = 0  # stop after this many epochs without a lower validation loss; 0: never
    augment: Augmentation = field(default_factory=Augmentation)

    weights: str | None = None  # a file, or "torchvision"
    dropout: float = 0.0  # before the last linear layer
    freeze_epochs: int = 0  # epochs that train only the new head
    body_rate: float = 1.0  # learning rate of the body as a share of the head's

    precision: str = "fp32"  # or "bf16"
    channels_last: bool = False
    device: str = "auto"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Config":
        fields = dict(fields)
        fields["input"] = Input(**{k: to_tuple(v) for k, v in fields["input"].items()})
        fields["augment"] = Augmentation(**fields["augment"])
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
        UserError: there is no such config, it has no `CONFIG`, or a change is not valid.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = CONFIGS / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("[a-z]*.py")))
        raise UserError(f"There is no config {name!r}. Give a Python file or one of: {known}.")
    config = runpy.run_path(str(path)).get("CONFIG")
    if not isinstance(config, Config):
        raise UserError(f"{path} does not define `CONFIG = Config(...)`.")
    for change in changes or []:
        config = apply_change(config, change)
    return config


def apply_change(config: Config, change: str) -> Config:
    """The config with one `key=value` replaced; keys may be `input.…`, `augment.…`, `options.…`."""
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set must be key=value, got {change!r}.")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    outer, _, inner = key.partition(".")
    names = [f.name for f in dataclasses.fields(Config)]
    if outer not in names:
        raise UserError(f"A config has no field {outer!r}. Its fields are: {', '.join(names)}.")
    part = getattr(config, outer)
    if inner and isinstance(part, dict):
        value = {**part, inner: value}
    elif inner:
        if not dataclasses.is_dataclass(part) or inner not in vars(part):
            raise UserError(f"{outer!r} has no field {inner!r}.")
        value = replace_field(part, inner, value)
    result: Config = replace_field(config, outer, value)
    return result


def replace_field(part: Any, name: str, value: Any) -> Any:
    """A copy with one field replaced."""
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return type(part)(**{**fields, name: value})


def to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
