"""The splits of a data set: what they may be called, and holding out those that are missing.

Knows nothing of files or pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.errors import UserError

SPLITS = ("train", "val", "test")
SPLITS_IN_WORDS = {
    "train": "the training split",
    "val": "the validation split",
    "test": "the test split",
}
VALIDATION_CAUTION = (
    "There is no test split, so the figures are from the validation split. That split also chose "
    "the epoch, so they may be too good."
)
SPLIT_NAMES = {  # as people write them, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ACCEPTED_NAMES = f"Accepted names of splits are: {', '.join(SPLIT_NAMES)}."


@dataclass(frozen=True)
class SplitRules:
    """How the splits that a data set lacks are held out of its training pictures."""

    validation: float  # the share of each split
    test: float
    seed: int
    folds: int = 0  # with `folds` the validation split is part `fold` of so many
    fold: int = 0


def fill_splits(
    given: NDArray[np.str_],  # (N,): the split of each row, or "" everywhere if there are none
    labels: NDArray[np.int64],  # (N,)
    rules: SplitRules,
    names: Sequence[str] | None = None,  # (N,): rows of one group stay in one split
) -> NDArray[np.str_]:
    """The split of each row: (N,). Missing splits are held out of training, stratified by label.

    A test split is held out only if no splits are given, so that given ones keep their meaning.
    """
    splits = np.where(given == "", "train", given)
    groups = None if names is None else np.unique(names, return_inverse=True)[1]
    shares = {"val": rules.validation}
    if not (given != "").any():
        shares = {"test": rules.test, "val": rules.validation}
    for name, share in shares.items():
        if name in given:
            continue
        rows = np.flatnonzero(splits == "train")
        own = None if groups is None else groups[rows]
        if name == "val" and rules.folds:
            held = assign_folds(labels[rows], rules.folds, rules.seed, own) == rules.fold - 1
        elif own is not None:
            held = sample_groups(labels[rows], share, rules.seed, own)
        else:
            kept = 2 if name == "test" and rules.validation else 1  # one for val, one for train
            held = sample_held_out(labels[rows], share, rules.seed, kept)
        splits[rows[held]] = name
    return splits


def check_groups(groups: Sequence[str] | None, splits: NDArray[np.str_]) -> None:
    """Raise UserError if a group is in two splits that were given."""
    seen: dict[str, str] = {}
    for group, split in zip(groups or (), splits.tolist(), strict=groups is not None):
        if seen.setdefault(group, split) != split:
            raise UserError(
                f"The group {group!r} is in the splits {seen[group]!r} and {split!r}. Move it into "
                "one of them, or remove `group`."
            )


def sample_held_out(
    labels: NDArray[np.int64], share: float, seed: int, kept: int = 1
) -> NDArray[np.bool_]:
    """A random mask of the rows to hold out, the same share of each class: (N,) bool.

    At least one row of each class is held out, unless the share is 0, and at least `kept` rows
    are not.
    """
    held = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = max(round(share * len(rows)), 1) if share else 0
        held[rng.permutation(rows)[: max(min(count, len(rows) - kept), 0)]] = True
    return held


def sample_groups(
    labels: NDArray[np.int64], share: float, seed: int, groups: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """A random mask of the groups to hold out, about the same share of each class: (N,) bool."""
    held: NDArray[np.bool_] = assign_groups(labels, groups, np.array([share, 1 - share]), seed) == 0
    return held


def assign_folds(
    labels: NDArray[np.int64], folds: int, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The part of each row, from 0 on: (N,). Parts are equally large, in each class too."""
    if groups is not None:
        return assign_groups(labels, groups, np.full(folds, 1 / folds), seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # one class after the other
    parts = np.empty(len(labels), np.int64)
    parts[order] = np.arange(len(labels)) % folds
    return parts


def assign_groups(
    labels: NDArray[np.int64], groups: NDArray[np.int64], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """The part of each row: (N,). Large groups are dealt first, each where most is missing."""
    classes = int(labels.max(initial=0)) + 1
    _, index = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(index.max(initial=0)) + 1, classes))
    np.add.at(counts, (index, labels), 1)  # rows of each group and class
    missing = np.outer(shares, counts.sum(0))  # (parts, K)
    order = np.random.default_rng(seed).permutation(len(counts))
    chosen = np.zeros(len(counts), np.int64)
    for group in order[np.argsort(-counts[order].sum(1), kind="stable")]:
        error = ((missing - counts[group]) ** 2 - missing**2) @ (1 / counts.sum(0).clip(1))
        chosen[group] = int(np.where(shares > 0, error, np.inf).argmin())
        missing[chosen[group]] -= counts[group]
    return chosen[index]
