"""What a training run is made of, and where it is written down: a small Python file.

A config file's docstring states the command, the cost and the result; its `CONFIG` says the rest.
Knows nothing of how a run goes.
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
    """One run. Everything but the first four has a default that works."""

    name: str  # of the model: its folder in the model tree
    architecture: str  # "lenet5", a torchvision classifier, "timm:<name>", "package.module:build"
    data: str  # "mnist", or a folder of images: <split>/<label>/*, or <label>/* to be split
    input: Input
    options: dict[str, Any] = field(default_factory=dict)  # for the architecture
    source: str = ""  # the data set's name and license, for the card
    license: str = "Apache-2.0"  # of the artefact
    layer: str | None = None  # Grad-CAM's target layer; None: the architecture's own

    task: str = "multiclass"  # or "multilabel"
    one_neuron: bool = False  # two classes by one sigmoid neuron
    validation: float = 0.1  # share taken from training where there is no split of that name
    test: float = 0.2  # the same, for a folder without splits
    seed: int = 0

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "adam"  # adam, adamw, sgd, rmsprop
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    l1: float = 0.0
    schedule: str = "onecycle"  # constant, step, cosine, exponential, onecycle
    warmup: float = 0.0  # share of the steps; one-cycle's rise when it is not 0 there
    loss: str = "cross_entropy"  # or "focal"
    label_smoothing: float = 0.0
    class_weights: bool = False  # each class by the inverse of its share
    clip: float = 0.0  # largest norm of the gradient; 0: any
    average: float = 0.0  # decay of the running mean of the weights that is kept; 0: none
    patience: int = 0  # epochs without a better validation loss before stopping; 0: never
    augment: Augmentation = field(default_factory=Augmentation)

    weights: str | None = None  # a file, or "torchvision"
    dropout: float = 0.0  # before the last linear layer
    freeze_epochs: int = 0  # the first so many train the new head alone
    body_rate: float = 1.0  # the body's learning rate as a share of the head's

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
    """Where data sets and weights lie: $SIGHTGLASS_DATA, else ./data."""
    return Path(os.environ.get("SIGHTGLASS_DATA") or "data")


def resolve_path(name: str) -> Path:
    """A file or folder as it is named, or else of that name where data sets and weights lie."""
    path = Path(name)
    return path if path.exists() else get_data_folder() / name


def load_config(name: str, changes: list[str] | None = None) -> Config:
    """The config of a file or of a name in `training/configs`, with `key=value` changes."""
    path = Path(name)
    if path.suffix != ".py":
        path = CONFIGS / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("[a-z]*.py")))
        raise UserError(f"There is no config {name}; give a file or one of: {known}.")
    config = runpy.run_path(str(path)).get("CONFIG")
    if not isinstance(config, Config):
        raise UserError(f"{path} defines no CONFIG = Config(…).")
    for change in changes or []:
        config = apply_change(config, change)
    return config


def apply_change(config: Config, change: str) -> Config:
    """The config with one `key=value` (or `input.key=value`, `augment.…`, `options.…`) replaced."""
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set takes key=value, not {change!r}.")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    outer, _, inner = key.partition(".")
    names = [f.name for f in dataclasses.fields(Config)]
    if outer not in names:
        raise UserError(f"A config has no {outer!r}; it has {', '.join(names)}.")
    part = getattr(config, outer)
    if inner and isinstance(part, dict):
        value = {**part, inner: value}
    elif inner:
        if not dataclasses.is_dataclass(part) or inner not in vars(part):
            raise UserError(f"{outer!r} has no {inner!r}.")
        value = replace_field(part, inner, value)
    result: Config = replace_field(config, outer, value)
    return result


def replace_field(part: Any, name: str, value: Any) -> Any:
    """The same with one field another."""
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return type(part)(**{**fields, name: value})


def to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
