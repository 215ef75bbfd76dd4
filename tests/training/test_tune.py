"""The search keeps its study, prunes, goes on, and writes a config that can be trained."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from training import config as configs
from training import tune
from training.config import Config
from training.data import Data
from training.errors import UserError


def test_goes_on_and_writes_what_fit_takes(quick: Config, strokes: Data, tmp_path: Path) -> None:
    """Three trials, then two more of the same study; the default is the first."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    config = replace(quick, epochs=2, average=0.0)
    tune.tune(config, strokes, storage, 3, tmp_path)
    best = tune.tune(config, strokes, storage, 2, tmp_path)
    study = optuna.load_study(study_name="strokes", storage=storage)
    assert len(study.trials) == 5
    assert study.trials[0].params["learning_rate"] == quick.learning_rate
    assert study.trials[0].params["activation"] == "relu"
    assert configs.load(str(tmp_path / "strokes.py")) == best
    assert {"history.png", "importance.png", "parallel.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_a_database_that_is_not_there_is_one_sentence(
    quick: Config, strokes: Data, tmp_path: Path
) -> None:
    """It names the study."""
    with pytest.raises(UserError, match="can't be opened"):
        tune.tune(quick, strokes, "sqlite:////nowhere/at/all.db", 1, tmp_path)
