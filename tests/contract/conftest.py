"""What several of the contract's tests share."""

from collections.abc import Iterator

import pytest

from tests.contract.tree import Tree
from tests.server import start_server
from tests.service.quadrants import write_model


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A server that looks often at a tree with one model in it."""
    folder = tmp_path_factory.mktemp("states")
    models = folder / "models"
    write_model(models / "main" / "1" / "model.onnx")
    settings = {"model_poll_seconds": 0.1, "default_model": "main"}
    with start_server(models, folder, **settings) as running:
        running.wait_ready()
        yield Tree(running, models)
