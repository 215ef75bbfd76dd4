"""Which files of a folder are models."""

from pathlib import Path

import pytest

from service.artifact.layout import find_model_files, make_model_path


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_models_are_found_with_name_and_version(tmp_path: Path) -> None:
    path = write(make_model_path(tmp_path, ("a-1", 10)))
    write(make_model_path(tmp_path, ("b", 2)))
    found = find_model_files(tmp_path)
    assert list(found) == [("a-1", 10), ("b", 2)]
    status = path.stat()
    assert found["a-1", 10] == (status.st_ino, status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    "name", ["Upper/1", "x/v1", "x/0", "x/01", "x/-1", "_x/1", "x", "x/1/more"]
)
def test_files_that_do_not_match_the_layout_are_ignored(tmp_path: Path, name: str) -> None:
    write(tmp_path / name / "model.onnx")
    assert find_model_files(tmp_path) == {}


def test_a_missing_folder_has_no_models(tmp_path: Path) -> None:
    assert find_model_files(tmp_path / "missing") == {}


def test_a_replaced_file_has_another_stamp(tmp_path: Path) -> None:
    path = write(make_model_path(tmp_path, ("a", 1)))
    before = find_model_files(tmp_path)
    write(path.with_suffix(".part")).rename(path)
    assert find_model_files(tmp_path) != before
