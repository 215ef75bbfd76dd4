"""Checkpoints of a training run: written whole or not at all, and read back as a network."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training.config import Config
from training.errors import UserError
from training.networks.classifier import Classifier, prepare_classifier
from training.networks.heads import split_neuron


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """Write to a temporary file and rename it, so that a kill leaves the old file or the new."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> tuple[Config, tuple[str, ...], Classifier, dict[str, Any]]:
    """A checkpoint's config, labels, classifier with its weights, and remaining entries.

    Raises:
        UserError: the file is not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = Config.from_json(state["config"])
        labels = tuple(state["labels"])
    except Exception as error:
        raise UserError(
            f"{path} is not a readable checkpoint of `training fit`: {error}."
        ) from error
    model, _ = prepare_classifier(replace(config, weights=None), len(labels))
    model.network.load_state_dict(state.pop("weights"))
    if config.one_neuron:
        split_neuron(model.network)
    return replace(config, device="auto"), labels, model.eval(), state
