"""How many worker processes make the most of this machine for the models of a repository.

One process serves large models best: its queue forms the largest batches, and a run keeps all cores
busy by itself. Where a run takes less time than HTTP around it, the event loop is the bound, and
one process per core answers as many times more.
"""

from pathlib import Path

from service.artifact.layout import find_model_files, make_model_path
from service.machine import count_cores, has_driver
from service.settings import AUTO, Settings

MAX_AUTO_WORKERS = 8  # by themselves; each takes memory
MAX_SMALL_FILE_BYTES = 4 << 20  # of a file; a larger one is no small model's, and not worth opening
MAX_BRIEF_MS = 0.1  # of a picture with its map, as the exporter measured it on one core


def choose_workers(settings: Settings) -> int:
    """How many processes to start: as told; or one, or one a core if no model takes long on it."""
    if settings.workers != AUTO:
        return int(settings.workers)
    if settings.device != "cpu" and has_driver():  # a GPU serves one queue best
        return 1
    models = find_model_files(settings.models_dir)
    small = all(size <= MAX_SMALL_FILE_BYTES for _, size, _ in models.values())
    if (
        models
        and small
        and all(is_brief(make_model_path(settings.models_dir, key)) for key in models)
    ):
        return min(count_cores(), MAX_AUTO_WORKERS)
    return 1


def is_brief(path: Path) -> bool:
    """Whether the file's card says so; what can't be read can't be served either."""
    from service.artifact.card import InvalidArtifact  # these are heavy, and mostly not needed
    from service.artifact.validation import read_artifact

    try:
        artifact, _ = read_artifact(path)
        return float(artifact.raw_card["gradcam"]["cost"]["explained_ms"]) <= MAX_BRIEF_MS
    except (InvalidArtifact, KeyError, TypeError, ValueError):
        return False
