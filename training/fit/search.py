"""Hyperparameter search with Optuna: TPE sampling, and pruning of poor trials.

The study is stored in a database (a SQLite file, or a URL that several machines share), so an
interrupted search continues. Knows nothing of what happens in an epoch.
"""

import dataclasses
import math
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from matplotlib import pyplot
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import Trial, TrialState
from optuna.visualization import matplotlib as plots
from sqlalchemy.exc import DBAPIError
from tqdm import tqdm

from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit.checks import DivergedError
from training.fit.loop import start_run
from training.fit.optimizers import SCHEDULES
from training.fit.progress import Progress
from training.fit.scores import PHRASES, get_best_measure
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

OPENING_TRIES = 5
HEARTBEAT_SECONDS = 30  # a trial without one for twice as long is repeated
SEARCHED_FIELDS = (
    *("optimizer", "learning_rate", "batch_size", "weight_decay", "schedule", "dropout"),
    *("activation", "pooling", "width", "depth"),  # LeNet's
    *("freeze_epochs", "body_rate"),  # if the config has weights
)


def search_hyperparameters(
    config: Config,
    data: Dataset,
    storage: str,
    trials: int,
    folder: Path,
    seconds: float | None = None,
) -> Config:
    """Run `trials` trials, the first with the given config; returns the best config of the study.

    The best config has the best value of the config's measure. It is also written to `folder`,
    with plots.

    Raises:
        UserError: the study cannot be opened, or no trial has finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(config, storage)
    study.optimize(
        lambda trial: run_trial(suggest_config(config, trial), data, trial),
        n_trials=trials,
        timeout=seconds,
        callbacks=[lambda study, trial: print_trial(study, trial)],
    )
    if not list_finished_trials(study):
        raise UserError(
            f"No trial of {hide_password(storage)} has finished yet. "
            "Run more trials with --trials, or give them more time with --seconds."
        )
    best = suggest_config(config, optuna.trial.FixedTrial(study.best_trial.params))
    write_config(best, study.best_value, folder / f"{config.name}.py")
    save_study_plots(study, folder, PHRASES[get_best_measure(config)[0]])
    return best


def open_study(config: Config, storage: str) -> optuna.Study:
    """The study of the config's name: a new one, or the one to continue.

    Raises:
        UserError: the database cannot be opened.
    """
    study = create_study(config, storage)
    measure = get_best_measure(config)[0]
    if study.user_attrs.get("measure", measure) != measure:
        raise UserError(
            f"The study {hide_password(storage)} compares trials by "
            f"{study.user_attrs['measure']}, the config by {measure}. Set `best` as "
            "it was, or begin another study with --out."
        )
    study.set_user_attr("measure", measure)
    # A process that joins or continues the study must sample other numbers than before.
    seed = config.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    if not study.trials:
        study.enqueue_trial(get_first_parameters(config))
    return study


def create_study(config: Config, storage: str) -> optuna.Study:
    """The study of the config's name in a database, which gets its tables if it is new.

    Of searchers that begin together, all but one fail to make the tables, and try again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
    for tries_left in reversed(range(OPENING_TRIES)):
        try:
            return optuna.create_study(
                storage=RDBStorage(
                    storage,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                ),
                study_name=config.name,
                load_if_exists=True,
                direction="minimize" if get_best_measure(config)[1] > 0 else "maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
            )
        except Exception as error:  # each database raises its own kinds
            if tries_left and isinstance(error, DBAPIError | StorageInternalError):
                time.sleep(0.5)  # they are made by then
                continue
            missing = isinstance(error, ImportError) and error.__cause__  # the database's driver
            reason = str(missing or error).rstrip(".")
            shown = hide_password(storage)
            raise UserError(f"The study {shown} cannot be opened: {reason}.") from error
    raise AssertionError("the last try returns or raises")


def hide_password(storage: str) -> str:
    """The URL of a database without the password in it."""
    return re.sub(r"(//[^/@]*?):.*@", r"\1:***@", storage)


def suggest_config(config: Config, trial: Trial | optuna.trial.FixedTrial) -> Config:
    """The config with the searched fields set to a trial's suggestions."""
    usual = (4, 8, 16, 32) if config.task == "segmentation" else (32, 64, 128, 256)
    sizes = sorted({*usual, config.batch_size})
    changes: dict[str, Any] = {
        "optimizer": trial.suggest_categorical("optimizer", ["adam", "adamw", "sgd", "rmsprop"]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 0.3, log=True),
        "batch_size": trial.suggest_categorical("batch_size", sizes),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        "schedule": trial.suggest_categorical("schedule", ["onecycle", *SCHEDULES]),
    }
    if config.architecture == "lenet5":
        kinds = ["sigmoid", "tanh", "relu", "leaky_relu"]
        changes["options"] = {
            **config.options,
            "activation": trial.suggest_categorical("activation", kinds),
            "pooling": trial.suggest_categorical("pooling", ["average", "max"]),
            "width": trial.suggest_float("width", 0.5, 2.0),
            "depth": trial.suggest_int("depth", 2, 4),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }
    else:
        changes["dropout"] = trial.suggest_float("dropout", 0.0, 0.5)
    if config.weights:
        changes["freeze_epochs"] = trial.suggest_int("freeze_epochs", 0, config.epochs)
        changes["body_rate"] = trial.suggest_float("body_rate", 0.01, 1.0, log=True)
    return replace(config, **changes)


def get_first_parameters(config: Config) -> dict[str, Any]:
    """The values of the given config, as the parameters of the first trial."""
    values = config.to_json()
    if config.architecture == "lenet5":
        lenet = {"activation": "sigmoid", "pooling": "average", "width": 1.0, "depth": 2}
        values |= {**lenet, "dropout": 0.0, **config.options}
    values["weight_decay"] = max(config.weight_decay, 1e-6)
    return {name: values[name] for name in SEARCHED_FIELDS if name in values}


def list_finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ran to completion."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def run_trial(config: Config, data: Dataset, trial: Trial) -> float:
    """Train with one config; returns its best measure, or raises TrialPruned."""
    training = start_run(config, data)
    with Progress(config.epochs, training.batches) as progress:
        while not training.is_over():
            try:
                figures = training.run_epoch(progress)
            except DivergedError as error:
                raise optuna.TrialPruned(str(error)) from error
            trial.report(figures[training.measure], training.epochs_done)
            if trial.should_prune():
                raise optuna.TrialPruned
    return training.sign * training.best


def print_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Print a line per trial: its value and the best so far."""
    value = "pruned" if trial.value is None else f"{trial.value:.4f}"
    best = f"{study.best_value:.4f}" if list_finished_trials(study) else "none"
    tqdm.write(f"trial {trial.number}: {value} (best {best})")


def write_config(config: Config, value: float, path: Path) -> None:
    """Write the config as a file for `fit`, with the fields that differ from the defaults."""
    lines = []
    for field in dataclasses.fields(config):
        found = getattr(config, field.name)
        fresh = field.default_factory() if callable(field.default_factory) else field.default
        if found != fresh:
            lines.append(f"    {field.name}={found!r},")
    imports = [
        f"from {kind.__module__} import {kind.__name__}" for kind in (Augmentation, Config, Input)
    ]
    text = [
        f'"""Found by tune: {PHRASES[get_best_measure(config)[0]]} {value:.4f}.',
        "",
        f"Command: python -m training fit {path}",
        '"""',
        "",
        *imports,
        "",
        "CONFIG = Config(",
        *lines,
        ")",
        "",
    ]
    path.write_text("\n".join(text))


def save_study_plots(study: optuna.Study, folder: Path, measure: str) -> None:
    """Plot history, importance and parallel coordinates, if two trials have finished."""
    logarithmic = study.direction == optuna.study.StudyDirection.MINIMIZE
    if len(list_finished_trials(study)) < 2:
        return
    from optuna.importance import PedAnovaImportanceEvaluator  # it imports scikit-learn

    kinds: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study),
        "importance": lambda: plots.plot_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator()
        ),
        "parallel": lambda: plots.plot_parallel_coordinate(
            study,
            target=lambda trial: (
                math.log10(max(trial.value or 0.0, 1e-9)) if logarithmic else trial.value or 0.0
            ),
            target_name=f"log10 of the {measure}" if logarithmic else measure,
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, plot in kinds.items():
            figure = plot().figure
            if (
                name == "history" and logarithmic
            ):  # on a linear scale one trial that diverged hides the others
                figure.axes[0].set_yscale("log")
            if name == "parallel":  # one axis per parameter
                figure.set_size_inches(14, 5)
            figure.savefig(folder / f"{name}.png", dpi=80, bbox_inches="tight")
            pyplot.close(figure)
