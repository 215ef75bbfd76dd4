"""Which files of a folder are models, and what is said about those that are not at their place."""

from pathlib import Path

import pytest

from service.artifact import layout
from service.artifact.layout import Key, Stamp, UnreadableTree, make_model_path, scan_tree


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def find(models_dir: Path) -> dict[Key, Stamp]:
    return scan_tree(models_dir).files


def test_models_are_found_with_name_and_version(tmp_path: Path) -> None:
    path = write(make_model_path(tmp_path, ("a-1", 10)))
    write(make_model_path(tmp_path, ("b", 2)))
    write(tmp_path / "b" / "2" / "report" / "README.md")
    tree = scan_tree(tmp_path)
    assert list(tree.files) == [("a-1", 10), ("b", 2)]
    status = path.stat()
    assert tree.files["a-1", 10] == (status.st_ino, status.st_size, status.st_mtime_ns)
    assert not tree.faults


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("Upper/1/model.onnx", "'Upper' is no valid name of a model"),
        ("_x/1/model.onnx", "'_x' is no valid name"),
        ("x/v1/model.onnx", "'v1' is no version"),
        ("x/0/model.onnx", "'0' is no version"),
        ("x/01/model.onnx", "'01' is no version"),
        ("x/-1/model.onnx", "'-1' is no version"),
        ("x/model.onnx", "at the wrong place"),
        ("model.onnx", "at the wrong place"),
        ("x.onnx", "at the wrong place"),
        ("x/1/lenet.onnx", "its name must be 'model.onnx'"),
        ("x/1/more/model.onnx", "its name must be"),
    ],
)
def test_a_file_that_is_not_at_its_place_is_no_model_and_is_reported(
    tmp_path: Path, place: str, reason: str
) -> None:
    write(tmp_path / place)
    tree = scan_tree(tmp_path)
    assert tree.files == {}
    [fault] = tree.faults
    assert fault.startswith(f"{tmp_path}/{place} is not served, because")
    assert reason in fault
    assert fault.endswith(f": put it at {tmp_path}/<name>/<version>/model.onnx.")


def test_other_files_are_not_reported(tmp_path: Path) -> None:
    for place in ("README.md", ".git/config", "lost+found/x", "x/notes", "x/1/model.onnx.part"):
        write(tmp_path / place)
    assert scan_tree(tmp_path) == ({}, set(), [])


@pytest.mark.parametrize("place", ["x", "x/1", "x/1/model.onnx", "x.onnx"])
def test_a_link_to_itself_is_no_model_and_hides_no_other(tmp_path: Path, place: str) -> None:
    write(make_model_path(tmp_path, ("good", 1)))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / place)
    assert list(find(tmp_path)) == [("good", 1)]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTree, match="missing does not exist"):
        scan_tree(tmp_path / "missing")
    with pytest.raises(UnreadableTree, match="can't be read"):
        scan_tree(write(tmp_path / "file"))


def test_a_folder_with_too_many_entries_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(make_model_path(tmp_path, ("good", 1)))
    for number in range(20):
        write(tmp_path / "many" / str(number + 1) / "model.onnx")
        write(tmp_path / "Photographs" / str(number))  # no model, so it does not matter
    monkeypatch.setattr(layout, "MAX_VERSIONS", 10)
    tree = scan_tree(tmp_path)
    assert list(tree.files) == [("good", 1)]
    assert tree.unreadable == {"many"}
    assert "many has more than 10 entries" in tree.faults[0]
    monkeypatch.setattr(layout, "MAX_ENTRIES", 10)
    with pytest.raises(UnreadableTree, match="more than 10 entries"):
        scan_tree(tmp_path)


def test_links_at_wrong_places_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "_0" / "model.onnx")
    (tmp_path / "_link").symlink_to(tmp_path / "_0")
    assert len(scan_tree(tmp_path).faults) == 1


def test_only_so_much_is_looked_at_in_folders_that_are_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        write(tmp_path / f"_{number}" / "model.onnx")
    monkeypatch.setattr(layout, "MAX_ALL_MISPLACED", 6)
    assert len(scan_tree(tmp_path).faults) == 3  # three folders, and a file in each


def test_a_folder_with_too_many_model_files_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAX_FILES", 4)
    for number in range(4):
        write(make_model_path(tmp_path, (f"m{number // 2}", 1 + number % 2)))
    assert len(scan_tree(tmp_path).files) == 4
    write(make_model_path(tmp_path, ("m5", 1)))
    with pytest.raises(UnreadableTree, match="more than 4 model files"):
        scan_tree(tmp_path)


def test_a_replaced_file_has_another_stamp(tmp_path: Path) -> None:
    path = write(make_model_path(tmp_path, ("a", 1)))
    before = find(tmp_path)
    write(path.with_suffix(".part")).rename(path)
    assert find(tmp_path) != before
