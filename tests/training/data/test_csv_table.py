"""Labels from a CSV: one or several a picture, split as it says or by chance; mistakes by line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import load_config
from training.data import image_folder
from training.data.csv_table import read_csv_table
from training.data.datasets import load_dataset
from training.errors import UserError


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of forty pictures."""
    monkeypatch.setattr(image_folder, "CACHE_FOLDER", tmp_path / "cache")
    for i in range(40):
        Image.new("RGB", (20, 20), (i, i, i)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_is_read_with_its_splits(pictures: Path) -> None:
    """Labels in the header's order, (N, K) float32."""
    lines = ["file,split,sea,雲"]
    lines += [f"{i}.png,{('train', 'val', 'test')[i % 3]},{i % 2},1" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    found = load_dataset(
        load_config("eurosat", [f"data={pictures / 'labels.csv'}", "task=multilabel"])
    )
    assert found.labels == ("sea", "雲")
    assert found.splits["train"].labels.dtype == np.float32
    assert found.splits["train"].labels[:3].tolist() == [[0, 1], [1, 1], [0, 1]]
    assert found.splits["train"].class_shares(2).tolist() == pytest.approx([0.5, 1.0])


def test_is_split_by_chance_where_it_does_not_say(pictures: Path) -> None:
    """The same every time."""
    rows = [f"{i}.png,{i % 2}" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(["file,sea", *rows]))
    config = load_config("eurosat", [f"data={pictures / 'labels.csv'}", "task=multilabel"])
    once, again = load_dataset(config), load_dataset(config)
    assert sum(len(split) for split in once.splits.values()) == 40
    assert (once.splits["test"].labels == again.splits["test"].labels).all()


def test_one_label_to_a_picture_by_its_name(pictures: Path) -> None:
    """Split alike from each label; other columns are passed over."""
    rows = [
        f"{i}.png,{age},{label}"
        for i, (age, label) in enumerate(zip("7" * 40, "ab" * 20, strict=True))
    ]
    (pictures / "labels.csv").write_text("\n".join(["file,age,label", *rows]))
    found = load_dataset(
        load_config("eurosat", [f"data={pictures / 'labels.csv'}", "validation=0.1"])
    )
    assert found.labels == ("a", "b")
    assert found.splits["train"].labels[:4].tolist() == [0, 1, 0, 1]
    assert {name: np.bincount(split.labels).tolist() for name, split in found.splits.items()} == {
        "train": [14, 14], "val": [2, 2], "test": [4, 4]
    }  # fmt: skip


def test_the_ground_truth_of_isic_is_taken_as_it_is(pictures: Path) -> None:
    """`image` without an ending, 1.0 in the column of the one diagnosis."""
    rows = [f"{i},{float(i % 2 == 0)},{float(i % 2 == 1)}" for i in range(40)]
    (pictures / "truth.csv").write_text("\n".join(["image,MEL,NV", *rows]))
    found = load_dataset(load_config("eurosat", [f"data={pictures / 'truth.csv'}"]))
    assert found.labels == ("MEL", "NV")
    assert all((split.class_shares(2) == 0.5).all() for split in found.splits.values())


def test_two_labels_are_several(pictures: Path) -> None:
    """A picture with two of them is refused, with its line, unless the task says so."""
    rows = [f"{i}.png,1,{int(i == 3)}" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(["file,sea,land", *rows]))
    with pytest.raises(UserError, match="line 5: the picture must have exactly one label"):
        load_dataset(load_config("eurosat", [f"data={pictures / 'labels.csv'}"]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "must have a header"),
        ("name,sea\n0.png,1", "must have a header"),
        ("file\n0.png", "has no label column"),
        ("file,sea\n0.png,yes", "line 2: every label must be 0 or 1"),
        ("file,sea\n0.png,1,1", "line 2: every label must be 0 or 1"),
        ("file,split,sea\n0.png,dev,1", "split must be train, val or test"),
        ("file,sea\n0.png,1\nnothere.png,1", r"line 3: there is no file 'nothere\.png'"),
    ],
)
def test_mistakes_are_named_by_line(pictures: Path, content: str, sentence: str) -> None:
    """One sentence each."""
    (pictures / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_csv_table(pictures / "labels.csv")
