"""Chooses the number of worker processes for the models of a repository on this machine.

One process serves large models best: its queue forms the largest batches, and one run keeps all
cores busy. If a run takes less time than the HTTP around it, the event loop is the bottleneck. Then
one process per core multiplies the throughput.
"""

import sys
from functools import partial
from pathlib import Path

from service.artifact.layout import UnreadableTree, make_model_path, scan_tree
from service.machine import count_cores, has_driver
from service.settings import AUTO, Settings

MAX_AUTO_WORKERS = 8  # each takes memory, so more are started only if the setting says so
MAX_SMALL_FILE_BYTES = 4 << 20  # a larger file can't hold a fast model, so it is not opened
FAST = b"fast"
MAX_SECONDS = 20  # to read the cards of all models
MAX_FAST_MS = 0.1  # time for one picture with its map, measured on one core at the export


def choose_workers(settings: Settings) -> int:
    """The number of processes: as set, or one per core if every model is fast, or one."""
    if settings.workers != AUTO:
        return int(settings.workers)
    if settings.device in (AUTO, "cuda") and has_driver():  # one queue uses a GPU best
        return 1
    try:
        files = scan_tree(settings.models_dir).files
    except UnreadableTree:  # the worker says so in its log
        return 1
    if not files or any(size > MAX_SMALL_FILE_BYTES for _, size, _ in files.values()):
        return 1
    paths = [make_model_path(settings.models_dir, key) for key in files]
    return min(count_cores(), MAX_AUTO_WORKERS) if are_fast(paths) else 1


def are_fast(paths: list[Path]) -> bool:
    """Whether each file's card says that the model is fast. An invalid file is never served.

    On Linux the files are read in a process with limits, as they are before they serve.
    """
    from service.artifact.card import InvalidArtifact  # slow to import, and mostly not needed
    from service.repository.sandbox import run_in_child, unpack

    if sys.platform != "linux":
        return all(map(is_fast, paths))
    attempt = partial(read_cards, paths)
    try:
        return unpack(run_in_child("The models", attempt, MAX_SECONDS)) == FAST
    except InvalidArtifact:
        return False


def read_cards(paths: list[Path]) -> bytes:
    """In the child: return `FAST` if every model is fast."""
    return FAST if all(map(is_fast, paths)) else b""


def is_fast(path: Path) -> bool:
    """Whether the file's card says that the model is fast. An invalid file is not."""
    from service.artifact.card import InvalidArtifact
    from service.artifact.validation import read_artifact

    try:
        artifact, _ = read_artifact(path)
        return float(artifact.raw_card["gradcam"]["cost"]["explained_ms"]) <= MAX_FAST_MS
    except (InvalidArtifact, KeyError, TypeError, ValueError):
        return False
