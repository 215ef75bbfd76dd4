"""Groups stay together, folds cover everything once, and what cannot be split is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import Config
from training.config_file import load_config
from training.data.datasets import Dataset, load_dataset
from training.data.decoded import store
from training.data.decoded.pictures import get_file_pictures
from training.data.splits import SplitRules, fill_splits
from training.errors import UserError

NONE = np.full(60, "")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded pictures go to a folder of the test's own."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Twelve patients with three pictures each; every other one is ill."""
    rng = np.random.default_rng(0)
    for patient in range(12):
        folder = tmp_path / "set" / ("ill" if patient % 2 else "well")
        folder.mkdir(parents=True, exist_ok=True)
        for side in "abc":
            pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"p{patient}_{side}.png")
    return tmp_path / "set"


def make_config(data: Path, *changes: str) -> Config:
    small = ["input.height=16", "input.width=16", "input.resize=16", f"data={data}"]
    return load_config("eurosat", [*small, "validation=0.2", "test=0.2", *changes])


def list_patients(data: Dataset) -> dict[str, set[str]]:
    found = {}
    for name, split in data.splits.items():
        files = get_file_pictures(split.pictures)
        assert files
        paths = [files.find_path(row) for row in range(len(split))]
        found[name] = {path.stem.partition("_")[0] for path in paths}
    return found


def test_a_group_stays_in_one_split(patients: Path) -> None:
    """The pattern finds it in the path. Each split has about its share of each label."""
    data = load_dataset(make_config(patients, r"group=(p\d+)_"))
    found = list_patients(data)
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 12
    assert {name: len(each) for name, each in found.items()} == {"train": 8, "val": 2, "test": 2}
    assert all((split.class_shares(2) == 0.5).all() for split in data.splits.values())


def test_a_column_may_name_the_group(patients: Path) -> None:
    """It is no label."""
    rows = [
        f"{path.relative_to(patients)},{path.parent.name},{path.stem[:-2]}"
        for path in sorted(patients.rglob("*.png"))
    ]
    (patients / "all.csv").write_text("\n".join(["file,label,patient", *rows]))
    data = load_dataset(make_config(patients / "all.csv", "group=patient"))
    assert data.labels == ("ill", "well")
    found = list_patients(data)
    assert sum(map(len, found.values())) == 12


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(p", "or a regular expression, got '(p': missing )"),
        ("q", "`group` 'q' finds nothing in ill/p1"),
        ("ill|well", "too few for the split 'val'"),
    ],
)
def test_groups_that_do_not_suit_are_one_sentence(
    patients: Path, pattern: str, sentence: str
) -> None:
    """No expression, a picture without a group, a label with one group."""
    with pytest.raises(UserError) as refused:
        load_dataset(make_config(patients, f"group={pattern}"))
    assert sentence in str(refused.value)


def test_a_group_in_two_given_splits_is_refused(patients: Path) -> None:
    """The sentence names it."""
    for label in ("ill", "well"):
        (patients / "val").mkdir(exist_ok=True)
        (patients / "train").mkdir(exist_ok=True)
        (patients / label).rename(patients / "train" / label)
        (patients / "val" / label).mkdir()
    (patients / "train" / "ill" / "p3_a.png").rename(patients / "val" / "ill" / "p3_a.png")
    (patients / "train" / "well" / "p2_a.png").rename(patients / "val" / "well" / "p2_a.png")
    with pytest.raises(UserError, match=r"The group 'p[23]' is in the splits 'train' and 'val'"):
        load_dataset(make_config(patients, r"group=p\d+"))


@pytest.mark.parametrize("grouped", [True, False])
def test_each_row_is_validated_in_one_fold(grouped: bool) -> None:
    """The test split is the same in all folds, and each fold has the same share of each label."""
    labels = np.arange(60) % 3
    groups = [str(i // 6) for i in range(60)] if grouped else None
    validated = np.zeros(60, int)
    tests = []
    for fold in range(1, 6):
        rules = SplitRules(0.1, 0.2, 3, folds=5, fold=fold)
        splits = fill_splits(NONE, labels, rules, groups)
        validated += splits == "val"
        tests.append((splits == "test").tolist())
        held = np.bincount(labels[splits == "val"], minlength=3)
        assert held.max() - held.min() <= 1
        if groups:
            pairs = {(group, str(split)) for group, split in zip(groups, splits, strict=True)}
            assert len(pairs) == 10
    assert all(each == tests[0] for each in tests)
    assert (validated == 1 - np.array(tests[0])).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["folds=1", "fold=1"], "`folds` must be 0 or at least 2"),
        (["folds=5"], "`folds` must be 0 or at least 2 and `fold` from 1 to `folds`"),
        (["folds=5", "fold=6"], "got folds=5 and fold=6"),
        (["fold=2"], "got folds=0 and fold=2"),
        (["data=mnist", "group=x"], "`group` needs picture files"),
    ],
)
def test_a_fold_that_is_none_is_refused(patients: Path, changes: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        load_dataset(make_config(patients, *changes))
    assert sentence in str(refused.value)


def test_a_label_with_too_few_pictures_is_named(patients: Path) -> None:
    """It would be missing in a split that is held out."""
    (patients / "rare").mkdir()
    for i in range(2):
        Image.new("RGB", (9, 9 + i)).save(patients / "rare" / f"{i}.png")
    with pytest.raises(UserError, match="has 2 pictures with the label 'rare', too few for the"):
        load_dataset(make_config(patients))
    assert len(load_dataset(make_config(patients, "test=0")).labels) == 3
