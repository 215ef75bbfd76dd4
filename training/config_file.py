"""The Python files that hold configs: loaded, changed and checked.

The docstring of a config file states its command, cost and result. Its `CONFIG` holds the settings.
"""

import ast
import dataclasses
import re
import runpy
import traceback
from pathlib import Path
from typing import Any, get_type_hints

from training.config import MEASURES, Config, to_tuple
from training.errors import UserError
from training.validation import Settings, describe_unknown, describe_value, join_choices

CONFIGS = Path(__file__).parent / "configs"
MAX_MASK_CLASSES = 255  # a mask is 8 bits, and one value is ignored
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


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
    if config.best not in (None, *MEASURES[config.task]):
        accepted = f"{join_choices([*MEASURES[config.task]])} for task={config.task}"
        raise UserError(describe_value("best", accepted, config.best))
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
