"""A search for better hyperparameters: trials that learn from each other, poor ones cut short.

The study lives in a database (a SQLite file, or any URL that several machines share) and goes on
where it was cut off. Knows nothing of what a run does in an epoch.
"""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from matplotlib import pyplot
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import Trial
from optuna.visualization import matplotlib as plots
from tqdm import tqdm

from training import processes
from training.augment import Augment
from training.config import Config
from training.data import Data
from training.errors import UserError
from training.models import prepare
from training.pictures import Input
from training.train import Run


def tune(
    config: Config,
    data: Data,
    storage: str,
    trials: int,
    folder: Path,
    seconds: float | None = None,
) -> Config:
    """Try so many configs, the given one first; returns the one with the lowest validation loss."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=config.seed, constant_liar=True),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        )
    except Exception as fault:  # whatever a database has to say
        raise UserError(f"The study {storage} can't be opened: {fault}.") from fault
    if not study.trials:
        study.enqueue_trial(default(config))
    study.optimize(
        lambda trial: run(drawn(config, trial), data, trial),
        n_trials=trials,
        timeout=seconds,
        callbacks=[lambda study, trial: print_trial(study, trial)],
    )
    best = drawn(config, optuna.trial.FixedTrial(study.best_trial.params))
    write(best, study.best_value, folder / f"{config.name}.py")
    draw(study, folder)
    return best


def drawn(config: Config, trial: Trial | optuna.trial.FixedTrial) -> Config:
    """The config with what is searched for put in by a trial."""
    changes: dict[str, Any] = {
        "optimizer": trial.suggest_categorical("optimizer", ["adam", "adamw", "sgd", "rmsprop"]),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 0.3, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
        "schedule": trial.suggest_categorical("schedule", ["onecycle", "cosine", "step"]),
    }
    if config.architecture == "lenet5":
        kinds = ["sigmoid", "tanh", "relu", "leaky_relu"]
        changes["options"] = {
            **config.options,
            "activation": trial.suggest_categorical("activation", kinds),
            "pooling": trial.suggest_categorical("pooling", ["average", "max"]),
            "width": trial.suggest_float("width", 0.5, 2.0),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }
    else:
        changes["dropout"] = trial.suggest_float("dropout", 0.0, 0.5)
    if config.weights:
        changes["freeze_epochs"] = trial.suggest_int("freeze_epochs", 0, config.epochs)
        changes["body_rate"] = trial.suggest_float("body_rate", 0.01, 1.0, log=True)
    return replace(config, **changes)


def default(config: Config) -> dict[str, Any]:
    """The given config's own values, as a trial; those outside the search are left to it."""
    options = {"activation": "sigmoid", "pooling": "average", "width": 1.0, "dropout": 0.0}
    values = {**config.to_json(), **options, **config.options}
    names = ("optimizer", "learning_rate", "schedule", "activation", "pooling", "width", "dropout")
    chosen = {name: values[name] for name in names}
    chosen["weight_decay"] = max(config.weight_decay, 1e-6)
    if config.batch_size in (32, 64, 128, 256):
        chosen["batch_size"] = config.batch_size
    return chosen


def run(config: Config, data: Data, trial: Trial) -> float:
    """Train one config; its lowest validation loss, or pruned on the way."""
    torch.manual_seed(config.seed)
    device = processes.start(config.device)
    model, head = prepare(config, len(data.labels))
    training = Run(config, data, model.to(device), head, device)
    while not training.over():
        figures = training.epoch()
        trial.report(figures["val_loss"], training.epochs_done)
        if figures["val_loss"] != figures["val_loss"] or trial.should_prune():
            raise optuna.TrialPruned
    return training.best


def print_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """A line for each trial: its value and the best so far."""
    value = "pruned" if trial.value is None else f"{trial.value:.4f}"
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    best = f"{study.best_value:.4f}" if done else "none"
    tqdm.write(f"trial {trial.number}: {value} (best {best})")


def write(config: Config, value: float, path: Path) -> None:
    """The config as a file that `fit` takes: what differs from the defaults."""
    lines = []
    for field in dataclasses.fields(config):
        found = getattr(config, field.name)
        fresh = field.default_factory() if callable(field.default_factory) else field.default
        if found != fresh:
            lines.append(f"    {field.name}={found!r},")
    imports = [
        f"from {kind.__module__} import {kind.__name__}" for kind in (Augment, Config, Input)
    ]
    text = [
        f'"""Found by tune: validation loss {value:.4f}.',
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


def draw(study: optuna.Study, folder: Path) -> None:
    """History, importance and parallel coordinates, where there are trials enough."""
    done = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    if len(done) < 2:
        return
    kinds: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study),
        "importance": lambda: plots.plot_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator()
        ),
        "parallel": lambda: plots.plot_parallel_coordinate(study),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, plot in kinds.items():
            figure = plot().figure
            figure.savefig(folder / f"{name}.png", dpi=80, bbox_inches="tight")
            pyplot.close(figure)
