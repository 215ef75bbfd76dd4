"""The search stores its study, continues it, and writes a config that `fit` accepts."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from training.config import Config
from training.config_file import load_config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit import search
from training.fit.search import (
    get_first_parameters,
    open_study,
    search_hyperparameters,
    suggest_config,
)

KILLED = """
import json, os, signal, sqlite3, sys, time
from pathlib import Path
from tests.training.conftest import bars
from training import config
from training.fit import search, training_run

def die(run, progress):
    with sqlite3.connect(sys.argv[2].removeprefix("sqlite:///")) as database:
        while not database.execute("select 1 from trial_heartbeats").fetchone():
            time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)

search.HEARTBEAT_SECONDS, training_run.TrainingRun.run_epoch = 1, die
settings = config.Config.from_json(json.loads(sys.argv[1]))
search.search_hyperparameters(settings, bars(), sys.argv[2], 1, Path(sys.argv[3]))
"""


def test_a_search_continues_and_writes_a_config(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """Two trials, then one more of the same study. The first one has the given config."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    config = replace(quick, epochs=1, average=0.0)
    search_hyperparameters(config, strokes, storage, 2, tmp_path)
    best = search_hyperparameters(config, strokes, storage, 1, tmp_path)
    study = optuna.load_study(study_name="strokes", storage=storage)
    assert len(study.trials) == 3
    assert study.trials[0].params["learning_rate"] == quick.learning_rate
    assert study.trials[0].params["activation"] == "relu"
    assert study.trials[0].params["depth"] == 2
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates)) == 3  # the second call samples other numbers
    assert load_config(str(tmp_path / "strokes.py")) == best
    assert {"history.png", "importance.png", "parallel.png"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_first_trial_has_the_values_of_the_config(quick: Config) -> None:
    """This includes fields of fine-tuning and a batch size outside the search list."""
    config = replace(load_config("eurosat"), weights="w.npz", dropout=0.3, body_rate=0.2)
    config = replace(config, freeze_epochs=2, batch_size=100, schedule="exponential")
    trial = optuna.trial.FixedTrial(get_first_parameters(config))
    assert suggest_config(config, trial) == config
    again = suggest_config(quick, optuna.trial.FixedTrial(get_first_parameters(quick)))
    assert {name: again.options[name] for name in quick.options} == quick.options
    assert replace(again, options=quick.options) == quick


@pytest.mark.slow
def test_a_killed_trial_is_repeated(
    quick: Config, strokes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat has stopped, so the next process runs its parameters again."""
    monkeypatch.setattr(search, "HEARTBEAT_SECONDS", 1)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    config = replace(quick, epochs=1, average=0.0)
    died = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(config.to_json()), storage, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    time.sleep(3.5)  # over twice its heartbeat, in a database that keeps whole seconds
    search_hyperparameters(config, strokes, storage, 1, tmp_path)
    trials = optuna.load_study(study_name="strokes", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[0].params == trials[1].params


def test_a_search_without_a_finished_trial_is_one_sentence(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """A trial whose loss is not a number is pruned, and there is no best config."""
    config = replace(quick, epochs=1, learning_rate=float("1e30"), optimizer="sgd")
    with pytest.raises(UserError, match=r"No trial of .* has finished yet"):
        search_hyperparameters(config, strokes, f"sqlite:///{tmp_path / 'study.db'}", 1, tmp_path)


def test_a_study_compares_by_one_measure(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """Continued with another one it is refused, because values would not be comparable."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    config = replace(quick, epochs=1, average=0.0)
    search_hyperparameters(config, strokes, storage, 1, tmp_path)
    with pytest.raises(UserError, match="compares trials by val_loss, the config by val_accuracy"):
        search_hyperparameters(replace(config, best="accuracy"), strokes, storage, 1, tmp_path)


def test_a_missing_database_is_one_sentence(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """The sentence names the study."""
    with pytest.raises(UserError, match="cannot be opened"):
        search_hyperparameters(quick, strokes, "sqlite:////nowhere/at/all.db", 1, tmp_path)


def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    quick: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names what is missing: here the driver of PostgreSQL."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError) as raised:
        open_study(quick, "postgresql://ann:secret@host/studies")
    assert "secret" not in str(raised.value)
    assert str(raised.value).startswith("The study postgresql://ann:***@host/studies cannot be")
    assert "psycopg" in str(raised.value)


def test_searchers_that_begin_together_open_one_study(quick: Config, tmp_path: Path) -> None:
    """Only one of them can make the tables of a new database. The others try again."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    with ThreadPoolExecutor(4) as pool:
        studies = [*pool.map(lambda _: open_study(quick, storage), range(4))]
    assert {study.study_name for study in studies} == {"strokes"}
