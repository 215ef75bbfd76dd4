"""Chooses the number of worker processes for the models of a repository on this machine.

One process serves large models best: its queue forms the largest batches, and one run keeps all
cores busy. If a run takes less time than the HTTP around it, the event loop is the bottleneck. Then
one process per core multiplies the throughput.
"""

from pathlib import Path

from service.artifact.layout import find_model_files, make_model_path
from service.machine import count_cores, has_driver
from service.settings import AUTO, Settings

MAX_AUTO_WORKERS = 8  # each takes memory, so more are started only if the setting says so
MAX_SMALL_FILE_BYTES = 4 << 20  # a larger file can't hold a fast model, so it is not opened
MAX_FAST_MS = 0.1  # time for one picture with its map, measured on one core at the export


def choose_workers(settings: Settings) -> int:
    """The number of processes: as set, or one per core if every model is fast, or one."""
    if settings.workers != AUTO:
        return int(settings.workers)
    if settings.device != "cpu" and has_driver():  # one queue uses a GPU best
        return 1
    models = find_model_files(settings.models_dir)
    all_small = all(size <= MAX_SMALL_FILE_BYTES for _, size, _ in models.values())
    if (
        models
        and all_small
        and all(is_fast(make_model_path(settings.models_dir, key)) for key in models)
    ):
        return min(count_cores(), MAX_AUTO_WORKERS)
    return 1


def is_fast(path: Path) -> bool:
    """Whether the file's card says that the model is fast. An invalid file is never served."""
    from service.artifact.card import InvalidArtifact  # slow to import, and mostly not needed
    from service.artifact.validation import read_artifact

    try:
        artifact, _ = read_artifact(path)
        return float(artifact.raw_card["gradcam"]["cost"]["explained_ms"]) <= MAX_FAST_MS
    except (InvalidArtifact, KeyError, TypeError, ValueError):
        return False
