"""Checkpoints of a training run: written whole or not at all, and read back as a network."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training.config import Config
from training.errors import UserError
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, prepare_classifier, split_neuron

FIXED_FIELDS = ("architecture", "options", "task", "one_neuron", "optimizer", "best")


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write to a temporary file and rename it, so that a kill leaves the old file or the new."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The entries of a file that `training fit` wrote; no code in it is executed.

    Raises:
        UserError: the file is not such a file.
    """
    try:
        return dict(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint of `training fit`: {error}."
        ) from error


def check_resumable(
    state: dict[str, Any], config: Config, labels: tuple[str, ...], folder: Path
) -> None:
    """Raise UserError if a run is of an earlier version, or its config or labels differ."""
    if "scaler" not in state:
        raise UserError(
            f"The run in {folder} was begun by an earlier version and cannot be resumed. Its "
            f"best.pt can still be exported. To go on from it, start a new run with --out and "
            f"--set weights={folder / 'best.pt'}."
        )
    stored = {name: state["config"][name] for name in FIXED_FIELDS}
    for name, before in {**stored, "labels": tuple(state["labels"])}.items():
        now = labels if name == "labels" else getattr(config, name)
        if now != before:
            raise UserError(
                f"The run in {folder} has {name}={before!r}, the config has {now!r}. "
                "Resume it with its own config, or start a new run with --out."
            )


def load_checkpoint(path: Path) -> tuple[Config, tuple[str, ...], Classifier, dict[str, Any]]:
    """A checkpoint's config, labels, classifier with its weights, and remaining entries.

    Raises:
        UserError: the file is not a checkpoint.
    """
    state = load_state(path)
    if "model" in state:
        raise UserError(f"{path} is the last state of a run. Give its best.pt instead.")
    try:
        weights = state.pop("weights")
        config = Config.from_json(state["config"])
        labels = tuple(state["labels"])
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint of `training fit`: "
            f"{type(error).__name__}: {error}."
        ) from error
    model, _ = prepare_classifier(replace(config, weights=None), len(labels))
    model.network.load_state_dict(weights)
    if config.one_neuron:
        wanted = config.input
        image = generate_images(1, wanted.height, wanted.width, wanted.channels)
        split_neuron(model.eval(), torch.from_numpy(image))
    return replace(config, device="auto"), labels, model.eval(), state
