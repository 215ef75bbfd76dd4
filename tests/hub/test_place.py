"""Files are put into a model repository in which others write at the same time."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub import pull
from hub.errors import HubError
from hub.pull import find_free_version, put_in_place
from service.artifact.layout import make_model_path


def write(folder: Path, content: str) -> Path:
    path = folder / f".pull-{content}"
    path.write_text(content)
    return path


def test_each_of_many_at_once_gets_a_version_of_its_own(tmp_path: Path) -> None:
    files = {str(number): write(tmp_path, str(number)) for number in range(20)}

    def place(content: str) -> tuple[str, str]:
        key = put_in_place(files[content], tmp_path, "birds", None)
        return content, make_model_path(tmp_path, key).read_text()

    with ThreadPoolExecutor(20) as pool:
        placed = [*pool.map(place, files)]
    assert [content for content, _ in placed] == [read for _, read in placed]
    assert len([*tmp_path.glob("birds/*/model.onnx")]) == 20


def test_a_version_that_is_named_is_never_replaced(tmp_path: Path) -> None:
    put_in_place(write(tmp_path, "first"), tmp_path, "birds", 3)
    with pytest.raises(HubError, match="is there already"):
        put_in_place(write(tmp_path, "second"), tmp_path, "birds", 3)
    assert (tmp_path / "birds" / "3" / "model.onnx").read_text() == "first"


def test_a_model_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []

    def remove_once(path: Path, target: Path) -> Path:
        if not removed:
            removed.append(target)
            shutil.rmtree(tmp_path / "birds")
        return rename(path, target)

    rename = Path.rename
    monkeypatch.setattr(Path, "rename", remove_once)
    put_in_place(write(tmp_path, "first"), tmp_path, "birds", None)
    assert removed
    assert (tmp_path / "birds" / "1" / "model.onnx").read_text() == "first"


def test_a_place_that_always_changes_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "birds" / "1").mkdir(parents=True)
    monkeypatch.setattr(pull, "find_free_version", lambda _: 1)
    with pytest.raises(HubError, match="changes all the time"):
        put_in_place(write(tmp_path, "first"), tmp_path, "birds", None)
    assert find_free_version(tmp_path / "birds") == 2
