"""Configs are read, changed and remembered exactly."""

import json
from pathlib import Path

import pytest

from training.config import CONFIGS, Config, load_config
from training.errors import UserError


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_config_loads_and_says_its_command(path: Path) -> None:
    """The docstring states how it is run."""
    assert load_config(path.stem) == load_config(str(path))
    assert f"python -m training fit {path.stem}" in path.read_text()


def test_survives_json() -> None:
    """What a checkpoint keeps is the same config."""
    config = load_config("lenet5")
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_changes_are_taken_at_any_depth() -> None:
    """Numbers, words and parts of parts."""
    changes = ["epochs=3", "optimizer=sgd", "augment.shift=0.5", "options.activation=relu"]
    config = load_config("lenet5", changes)
    assert (config.epochs, config.optimizer, config.augment.shift) == (3, "sgd", 0.5)
    assert config.options == {"activation": "relu"}


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("nothere", "epochs=1", "There is no config 'nothere'. .* lenet5"),
        ("lenet5", "epoch=1", "A config has no field 'epoch'"),
        ("lenet5", "augment.spin=1", "'augment' has no field 'spin'"),
        ("lenet5", "epochs", "must be key=value"),
    ],
)
def test_mistakes_are_one_sentence(name: str, change: str, sentence: str) -> None:
    """They say what there is."""
    with pytest.raises(UserError, match=sentence):
        load_config(name, [change])
