"""A version's folder: whole or not at all, and never shared by two exports."""

from pathlib import Path

import pytest

from training.export.version_folder import place_version


def test_exports_at_the_same_time_get_versions_of_their_own(tmp_path: Path) -> None:
    placed: list[Path] = []

    def fill(folder: Path, version: int) -> None:
        assert not (tmp_path / str(version) / "model.onnx").exists()
        if version == 1:  # another export, while this one still writes
            placed.append(place_version(tmp_path, None, fill_other))
        (folder / "model.onnx").write_text(f"written as {version}")

    def fill_other(folder: Path, version: int) -> None:
        (folder / "model.onnx").write_text(f"written as {version}")

    placed.append(place_version(tmp_path, None, fill))
    assert sorted(path.name for path in placed) == ["1", "2"]
    for path in placed:
        assert (path / "model.onnx").read_text() == f"written as {path.name}"


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path, _: int) -> None:
        (folder / "model.onnx").write_text("half")
        raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        place_version(tmp_path, None, fail)
    assert [*tmp_path.iterdir()] == []


def test_a_version_that_is_named_is_replaced(tmp_path: Path) -> None:
    def write(content: str) -> None:
        def fill(folder: Path, _: int) -> None:
            (folder / "report").mkdir()
            (folder / "report" / content).touch()
            (folder / "model.onnx").write_text(content)

        place_version(tmp_path, 7, fill)

    write("first")
    write("second")
    assert (tmp_path / "7" / "model.onnx").read_text() == "second"
    assert [path.name for path in (tmp_path / "7" / "report").iterdir()] == ["second"]
