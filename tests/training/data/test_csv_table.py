"""Labels from a CSV file: one or several per picture, with and without a column of splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config_file import load_config
from training.data.csv_table import read_csv_table
from training.data.datasets import load_dataset
from training.data.decoded import store
from training.errors import UserError


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of forty pictures."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    for i in range(40):
        Image.new("RGB", (20, 20), (i, i, i)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_table_with_splits_keeps_them(pictures: Path) -> None:
    """The labels are in the order of the header: (N, K) float32."""
    lines = ["file,split,sea,雲"]
    lines += [f"{i}.png,{('train', 'val', 'test')[i % 3]},{i % 2},1" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    found = load_dataset(
        load_config("lenet5", [f"data={pictures / 'labels.csv'}", "task=multilabel"])
    )
    assert found.labels == ("sea", "雲")
    assert found.splits["train"].labels.dtype == np.float32
    assert found.splits["train"].labels[:3].tolist() == [[0, 1], [1, 1], [0, 1]]
    assert found.splits["train"].class_shares(2).tolist() == pytest.approx([0.5, 1.0])


def test_a_table_without_splits_is_split_at_random(pictures: Path) -> None:
    """The same seed gives the same splits."""
    rows = [f"{i}.png,{i % 2},{i % 3 % 2}" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(["file,sea,land", *rows]))
    config = load_config("lenet5", [f"data={pictures / 'labels.csv'}", "task=multilabel"])
    once, again = load_dataset(config), load_dataset(config)
    assert sum(len(split) for split in once.splits.values()) == 40
    assert (once.splits["test"].labels == again.splits["test"].labels).all()


def test_a_column_label_names_the_label_of_each_picture(pictures: Path) -> None:
    """The splits are stratified by label, and other columns are ignored."""
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


def test_a_ground_truth_file_of_isic_is_read(pictures: Path) -> None:
    """It has file names without a suffix, and 1.0 in the column of the diagnosis."""
    rows = [f"{i},{float(i % 2 == 0)},{float(i % 2 == 1)}" for i in range(40)]
    (pictures / "truth.csv").write_text("\n".join(["image,MEL,NV", *rows]))
    found = load_dataset(load_config("eurosat", [f"data={pictures / 'truth.csv'}"]))
    assert found.labels == ("MEL", "NV")
    assert all((split.class_shares(2) == 0.5).all() for split in found.splits.values())


def test_several_labels_need_task_multilabel(pictures: Path) -> None:
    """Otherwise a picture with two labels is refused, with its line."""
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
        ("file,sea\n0.png,1,1", "line 2: the header has 2 columns, this row 3"),
        ("file,label\n0.png", "line 2: the header has 2 columns, this row 1"),
        ("file,label\n0.png,", "line 2: the label is empty"),
        ("file,sea,sea\n0.png,1,1", "has two columns 'sea'"),
        ("file,sea\n0.png,1\n\n1.png,2", "line 4: every label must be 0 or 1, 'sea' is '2'"),
        ("file,sea\n0.png,1\n1.png,0\n./0.png,1", r"line 4: 0\.png is in line 2 already"),
        ("file,split,sea\n0.png,spare,1", "split must be train, val or test"),
        ("file,sea\n0.png,1\nnothere.png,1", r"line 3: there is no file 'nothere\.png'"),
    ],
)
def test_a_mistake_is_reported_with_its_line(pictures: Path, content: str, sentence: str) -> None:
    """Each mistake is one sentence."""
    (pictures / "labels.csv").write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_csv_table(pictures / "labels.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_that_excel_saved_is_read(pictures: Path, encoding: str, delimiter: str) -> None:
    """With a byte-order mark, Windows' line ends, blanks around cells and empty rows at the end."""
    lines = ["File,Label ,Split,", "0.png,雲 ,Training,", "sub\\1.png, sea,Valid,", ",,,", ""]
    (pictures / "sub").mkdir()
    (pictures / "1.png").rename(pictures / "sub" / "1.png")
    content = "\r\n".join(lines).replace(",", delimiter).encode(encoding)
    (pictures / "labels.csv").write_bytes(content)
    rows, labels = read_csv_table(pictures / "labels.csv")
    assert labels == ("sea", "雲")
    assert [(row.file.name, row.marks, row.split, row.line) for row in rows] == [
        ("0.png", (False, True), "train", 2),
        ("1.png", (True, False), "val", 3),
    ]


def test_a_table_in_another_encoding_is_refused_with_its_line(pictures: Path) -> None:
    """Excel's plain CSV is in the system's code page."""
    (pictures / "labels.csv").write_bytes("file,label\n0.png,Gr\u00e4ser".encode("cp1252"))
    with pytest.raises(UserError, match="line 2 has bytes that are no character"):
        read_csv_table(pictures / "labels.csv")


def test_one_label_is_too_few(pictures: Path) -> None:
    """An exported model compares at least two."""
    (pictures / "labels.csv").write_text("file,sea\n0.png,1\n1.png,0")
    with pytest.raises(UserError, match="has only the label 'sea', at least two are needed"):
        load_dataset(load_config("lenet5", [f"data={pictures / 'labels.csv'}", "task=multilabel"]))


def test_a_table_needs_no_test_split(pictures: Path) -> None:
    """Missing pictures to validate on are held out of training."""
    rows = [f"{i}.png,{'ab'[i % 2]},train" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    found = load_dataset(load_config("lenet5", [f"data={pictures / 'labels.csv'}"]))
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 36, "val": 4}
    assert found.measured_split == "val"


def test_a_label_without_training_pictures_is_named(pictures: Path) -> None:
    """No network learns it."""
    rows = [f"{i}.png,{i % 2},{int(i == 9)},{'train' if i != 9 else 'val'}" for i in range(40)]
    (pictures / "labels.csv").write_text("\n".join(["file,sea,rare,split", *rows]))
    with pytest.raises(UserError, match="no picture with the label 'rare' in the split 'train'"):
        load_dataset(load_config("lenet5", [f"data={pictures / 'labels.csv'}", "task=multilabel"]))
