"""Batches are the same with any number of workers, and are divided among processes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import Config
from training.data.datasets import Dataset, load_dataset
from training.data.decoded import store
from training.fit.loaders import Batch, Loader, make_loader
from training.fit.loop import fit
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

CPU = torch.device("cpu")
EVERYTHING = Augmentation(
    resized_crop=0.3, flip=True, turn=True, rand_augment=9, shift=0.1, rotate=10, scale=0.1,
    padding="reflection", brightness=0.2, elastic=0.03, fade=0.3, noise=0.05, erase=0.3,
    mixup=0.2, cutmix=1.0,
)  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A config of twelve noisy JPEGs of two labels."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (40, 50 + i, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{i}.jpg")
    return Config(
        "noise", "resnet18", str(tmp_path / "set"), Input("RGB", 16, 16, 20), batch_size=4
    )


def read(loader: Loader, epoch: int) -> list[Batch]:
    return list(loader.iterate(epoch))


def load(config: Config, data: Dataset, epoch: int = 1) -> list[Batch]:
    """The batches of an epoch, by workers that live on if there are any."""
    loader = make_loader(data.splits["train"], config, 2, CPU, train=True)
    read(loader, 0)
    return read(loader, epoch)


def are_equal(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for both in pairs for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("augment", [Augmentation(rotate=10, noise=0.1), EVERYTHING])
def test_batches_are_the_same_with_any_number_of_workers(
    files: Config, augment: Augmentation
) -> None:
    """To the bit: pictures from the store, and random crops of files. Epochs differ."""
    config = replace(files, augment=augment, passes=2)
    data = load_dataset(config)
    alone, shared = (load(replace(config, workers=workers), data) for workers in (0, 2))
    assert are_equal(alone, shared)
    assert not are_equal(alone, load(config, data, 2))
    assert not are_equal(alone, load(replace(config, seed=1), data))
    assert alone[0][0].shape == (4, 16, 16, 3)


def test_each_pass_has_every_picture_once(quick: Config, strokes: Dataset) -> None:
    """In another order, and changed in another way."""
    config = replace(quick, passes=2, batch_size=96, augment=Augmentation(noise=0.2))
    (first, _), (second, _) = load(config, strokes)
    plain = replace(config, augment=Augmentation())
    (one, _), (two, _) = load(plain, strokes)
    known = {each.tobytes() for each in strokes.splits["train"].pictures}
    for image in (one, two):
        assert {each.numpy().tobytes() for each in image} == known
    assert not torch.equal(one, two)
    assert not torch.equal(first - one, second - two)


def test_each_process_gets_its_share_of_every_batch(quick: Config, strokes: Dataset) -> None:
    """Together they are the batches of one process, with the same changes."""
    config = replace(quick, batch_size=16)

    def share(rank: int, processes: int, train: bool) -> Iterator[Batch]:
        split = strokes.splits["train" if train else "val"]
        return make_loader(split, config, 2, CPU, (rank, processes), train).iterate(3)

    for train in (True, False):
        for whole, *parts in zip(
            share(0, 1, train), share(0, 2, train), share(1, 2, train), strict=True
        ):
            together = torch.stack([part[0] for part in parts], 1).flatten(0, 1)
            assert torch.equal(whole[0], together)


def test_evaluation_shows_every_picture_unchanged_and_in_order(
    quick: Config, strokes: Dataset
) -> None:
    """Augmentation is for training alone."""
    split = strokes.splits["val"]
    config = replace(quick, batch_size=3, augment=EVERYTHING)
    batches = read(make_loader(split, config, 2, CPU), 0)
    assert np.array_equal(torch.cat([image for image, _ in batches]).numpy(), split.pictures)
    assert torch.cat([label for _, label in batches]).tolist() == split.labels.tolist()


def test_mixed_labels_reach_the_loss(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """MixUp and CutMix give each picture a share of both labels, and the network learns them."""
    config = replace(quick, epochs=8, average=0.0, augment=Augmentation(mixup=0.2, cutmix=1.0))
    labels = torch.cat([label for _, label in load(config, strokes)])
    assert labels.shape == (96, 2)
    assert torch.allclose(labels.sum(1), torch.ones(96))
    assert ((labels > 0) & (labels < 1)).any()
    assert fit(config, strokes, tmp_path)["val_accuracy"] > 0.8


def test_training_leaves_the_generator_of_dropout_alone(quick: Config, strokes: Dataset) -> None:
    """Without workers the changes are made in the process of the network."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(replace(quick, workers=0), strokes)
    assert torch.equal(torch.rand(3), expected)
