"""The splits of a data set: what they may be called, and holding out those that are missing.

Knows nothing of files or pixels.
"""

import numpy as np
from numpy.typing import NDArray

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


def fill_splits(
    given: NDArray[np.str_],  # (N,): the split of each row, or "" everywhere if there are none
    labels: NDArray[np.int64],  # (N,)
    validation: float,
    test: float,
    seed: int,
) -> NDArray[np.str_]:
    """The split of each row: (N,). Missing splits are held out of training, stratified by label.

    A test split is held out only if no splits are given, so that given ones keep their meaning.
    """
    splits = np.where(given == "", "train", given)
    shares = {"val": validation} if (given != "").any() else {"test": test, "val": validation}
    for name, share in shares.items():
        if name not in given:
            rows = np.flatnonzero(splits == "train")
            kept = 2 if name == "test" and validation else 1  # one for val, one for train
            held = sample_held_out(labels[rows], share, seed, kept)
            splits[rows[held]] = name
    return splits


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
