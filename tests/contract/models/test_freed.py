"""The memory of a model that is removed is given back, however often that happens."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.contract.artifacts import SIDE, write_slow_model
from tests.contract.tree import PICTURE, Tree
from tests.server import Server, wait_until
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

ROUNDS = 20
WEIGHTS = 4 * SIDE * SIDE  # bytes of the model that comes and goes
MAX_KEPT = ROUNDS * WEIGHTS // 2  # over all rounds; a model that is kept keeps all its weights


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_models_that_come_and_go_under_load_take_no_memory_with_them(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models / "stays" / "1" / "model.onnx")
    write_slow_model(tmp_path / "model.onnx", seconds=0.01)
    with start_worker(models, tmp_path, model_poll_seconds=0.1, default_model="stays") as server:
        tree = Tree(server, models)
        sizes: list[int] = []
        for _ in range(ROUNDS):
            tree.path("comes").parent.mkdir(parents=True)
            shutil.copy(tmp_path / "model.onnx", tree.path("comes").with_suffix(".part"))
            tree.path("comes").with_suffix(".part").rename(tree.path("comes"))
            tree.wait("ready", "comes")
            load(server)
            if not sizes:
                server.wait_ready()  # what is loaded now is frozen for the garbage collector
            shutil.rmtree(models / "comes")
            tree.wait(None, "comes")
            load(server, "stays")
            wait_until(settle(server))
            sizes.append(psutil.Process(server.pid).memory_info().rss)
    # The last round alone may have left free memory that malloc could not return yet.
    assert min(sizes[-5:]) - sizes[0] < MAX_KEPT, [size >> 20 for size in sizes]


def load(server: Server, name: str = "comes") -> None:
    """Send pictures, one by one and many at a time."""
    for count in (1, 8, 20):
        files = [("image", PICTURE)] * count
        answer = server.client.post("/gradcam/batch", files=files, params={"model": name})
        assert answer.status_code == 200


def settle(server: Server) -> Callable[[], bool]:
    """Return a condition that holds once the resident memory has not changed for a moment."""
    seen: list[int] = []

    def is_stable() -> bool:
        seen.append(psutil.Process(server.pid).memory_info().rss)
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    return is_stable
