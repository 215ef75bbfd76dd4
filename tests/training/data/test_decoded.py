"""Decoded pictures are stored once, within a limit, and read like an array."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.decoded import store
from training.data.decoded.pictures import FilePictures, read_pictures
from training.imaging.preprocessing import Input, Pixels, load_pixels

SPEC = Input("RGB", 8, 8, 8)
ROW = 8 * 8 * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Decoded pictures go to a folder of the test's own."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, in order."""
    names: list[str] = []

    def remember(path: Path, input_spec: Input) -> Pixels:
        names.append(path.name)
        return load_pixels(path, input_spec)

    monkeypatch.setattr("training.data.decoded.pictures.load_pixels", remember)
    return names


def write(folder: Path, names: str) -> list[Path]:
    """A picture for each letter, whose brightness is the letter's number."""
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (10, 8), (ord(name),) * 3).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in names]


def read(paths: list[Path], rows: int | None = None) -> FilePictures:
    """The pictures, in a store that has room for so many."""
    limit = 1.0 if rows is None else rows * ROW / store.GIGABYTE
    pictures, faults = read_pictures(paths, paths[0].parent, SPEC, limit)
    assert not faults
    return pictures


def spell(pictures: FilePictures) -> str:
    return "".join(chr(each) for each in pictures[:].max((1, 2, 3)))


def test_an_added_picture_is_decoded_alone(tmp_path: Path, decoded: list[str]) -> None:
    """A picture that has changed, too; one that is gone leaves its row to the next."""
    read(write(tmp_path / "set", "abd"))
    decoded.clear()
    paths = [*write(tmp_path / "set", "c"), *(tmp_path / "set" / f"{name}.png" for name in "abd")]
    assert spell(read(paths)) == "cabd"
    assert decoded == ["c.png"]
    decoded.clear()
    (tmp_path / "set" / "a.png").unlink()
    paths = [tmp_path / "set" / f"{name}.png" for name in "bcd"] + write(tmp_path / "set", "e")
    assert spell(read(paths)) == "bcde"
    assert decoded == ["e.png"]
    (file,) = (tmp_path / "cache").glob("*.pixels")
    assert file.stat().st_size == 4 * ROW


def test_what_has_no_room_is_decoded_each_time(tmp_path: Path, decoded: list[str]) -> None:
    """It is checked once, before the training."""
    paths = write(tmp_path / "set", "abcd")
    pictures = read(paths, rows=3)
    assert (pictures.slots >= 0).sum() == 3
    decoded.clear()
    assert spell(pictures) == "abcd"
    assert decoded == ["d.png"]
    del pictures
    decoded.clear()
    assert not (read(paths, rows=3).slots[:3] < 0).any()
    assert (read(paths, rows=0).slots >= 0).sum() == 0
    assert decoded == []
    assert spell(read(paths)) == "abcd"
    assert decoded == ["a.png", "b.png", "c.png", "d.png"]


def test_a_store_that_nobody_uses_makes_room(tmp_path: Path, cache: Path) -> None:
    """One that is in use stays, and the new one gets what is left."""
    used = read(write(tmp_path / "one", "abc"), rows=5)
    other = read(write(tmp_path / "two", "defg"), rows=5)
    assert (other.slots >= 0).sum() == 2
    assert spell(used) == "abc"
    del used, other
    assert (read([*(tmp_path / "two").iterdir()], rows=5).slots >= 0).sum() == 4
    (cache / "of-an-earlier-version.npy").write_bytes(bytes(9 * ROW))
    read(write(tmp_path / "three", "hi"), rows=5)
    assert sum(file.stat().st_size for file in cache.glob("*.[np][pi][yx]*")) <= 5 * ROW


def test_without_a_limit_the_stores_of_others_stay(tmp_path: Path, decoded: list[str]) -> None:
    """A run that stores nothing needs no room."""
    other = write(tmp_path / "one", "abc")
    read(other)
    read(write(tmp_path / "two", "de"), rows=0)
    decoded.clear()
    assert spell(read(other)) == "abc"
    assert decoded == []


def test_a_store_that_is_removed_meanwhile_is_not_missed(tmp_path: Path, cache: Path) -> None:
    """The files are decoded instead."""
    pictures = read(write(tmp_path / "set", "abc"))
    for file in cache.iterdir():
        file.unlink()
    assert spell(pictures) == "abc"


def test_half_a_line_of_the_index_is_passed_over(tmp_path: Path, cache: Path) -> None:
    """A run that was killed may leave one."""
    paths = write(tmp_path / "set", "abc")
    read(paths)
    (index,) = cache.glob("*.index")
    index.write_text(index.read_text()[:-2])
    assert spell(read(paths)) == "abc"


def test_rows_are_read_like_those_of_an_array(tmp_path: Path) -> None:
    """By an index, a slice, indices and a mask, and in another process."""
    pictures = read(write(tmp_path / "set", "abcd"))
    whole = np.asarray(pictures)
    assert pictures.shape == whole.shape == (4, 8, 8, 3)
    bright = whole[:, 0, 0, 0] > 98
    for rows in (2, -1, slice(1, 3), np.array([3, 0]), bright, (slice(None), None)):
        assert np.array_equal(pictures[rows], whole[rows])
    assert spell(pictures.select(np.array([3, 1]))) == "db"
    assert spell(pickle.loads(pickle.dumps(pictures))) == "abcd"
    with pytest.raises(IndexError):
        pictures[4]
