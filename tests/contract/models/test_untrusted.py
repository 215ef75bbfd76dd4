"""Model files are not trusted: an invalid file is rejected, and the old one still serves."""

import ast

import pytest

from tests.contract.tree import Tree
from tests.server import ROOT
from tests.service.artifact.spoiled import (
    INVALID,
    UNRUNNABLE,
    Spoil,
    allocate_petabyte,
    declare_wrong_shape,
    describe_half_a_surrogate_pair,
    describe_too_deep,
    hide_operator,
    store_outside,
    write_spoiled,
)
from tests.service.quadrants_model import write_model

EXECUTING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}


@pytest.mark.parametrize(
    "spoil",
    [
        store_outside,
        hide_operator,
        allocate_petabyte,
        declare_wrong_shape,
        describe_half_a_surrogate_pair,
        describe_too_deep,
    ],
)
def test_an_invalid_file_is_rejected_with_a_sentence_and_the_old_one_serves(
    tree: Tree, spoil: Spoil
) -> None:
    """Other rules are tested in tests/service/artifact and tests/service/repository/test_loader."""
    name = spoil.__name__.replace("_", "-")
    write_model(tree.path(name))
    tree.wait("ready", name)
    write_spoiled(tree.path(name), spoil)
    failed = tree.wait("failed", name)
    assert str(tree.path(name)) in failed["reason"]
    assert (INVALID | UNRUNNABLE)[spoil] in failed["reason"]
    assert len(failed["reason"]) <= 1000
    assert tree.predict(model=name).status_code == 200
    assert tree.server.client.get("/models").status_code == 200


def test_no_module_of_the_service_can_run_code_from_a_file() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & EXECUTING, path
            if isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle", path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "__import__"), path
                assert not called.endswith(("np.load", "yaml.load")), path
            if isinstance(node, ast.Attribute):  # a pipe unpickles what it receives
                assert node.attr != "recv", path
