"""Loaders of batches: torch's DataLoader over a split. Each process gets its share.

The order of an epoch follows from (seed, epoch), and the changes of a picture from (seed, epoch,
pass, index). So they are the same to the bit with any number of workers, and in a resumed run.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from training.config import Config
from training.data.datasets import Split
from training.data.decoded.masks import read_mask
from training.data.decoded.pictures import get_file_pictures
from training.data.mask_folder import MaskSplit
from training.imaging.augmentation import Augmentation
from training.imaging.decoding import decode_picture
from training.imaging.picture_transforms import ChangedPicture, PictureTransforms

Batch = tuple[torch.Tensor, torch.Tensor]  # pictures (n, H, W, C) of 0..255, and labels
Row = tuple[int, int]  # the index of a picture, and the seed of its changes
MAX_WORKERS = 8


class Loader:
    """The batches of a split, epoch by epoch. Its workers live as long as it does."""

    def __init__(self, loader: "DataLoader[Batch]", batches: "EpochBatches") -> None:
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.batches)

    def iterate(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch."""
        self.batches.epoch = epoch
        return iter(self.loader)


def make_loader(
    split: Split,
    config: Config,
    classes: int,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
    train: bool = False,
) -> Loader:
    """The loader of a split.

    For training, pictures are shuffled and augmented, and a smaller last batch is dropped.
    Otherwise all pictures come in order, as the service would see them. `share` is (rank,
    processes): each batch, of the size in the config, is divided among the processes.
    """
    batches: EpochBatches
    data: Dataset[Batch]
    if train:
        batches = ShuffledBatches(len(split), config, share)
        data = TrainingPictures(split, config, classes)
    else:
        batches = EpochBatches(len(split), config.batch_size, share)
        data = EvaluationPictures(split)
    workers = choose_workers(config.workers, device)
    loader = DataLoader(
        data,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=pass_on,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # else it draws from the one that dropout uses
    )
    return Loader(loader, batches)


def choose_workers(workers: int | None, device: torch.device) -> int:
    """The config's number of worker processes, or else one that suits the device."""
    if workers is not None:
        return workers
    if device.type == "cpu":  # the network needs the cores itself
        return 0
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(max(cores // max(torch.cuda.device_count(), 1) - 1, 1), MAX_WORKERS)


class EpochBatches(Sampler[list[Row]]):
    """The rows of each batch of an epoch, in order: this process's share of them."""

    def __init__(self, count: int, size: int, share: tuple[int, int]) -> None:
        self.count, self.size, self.share = count, size, share
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[list[Row]]:
        order = np.arange(self.count)
        yield from self.divide(order, np.zeros_like(order))

    def divide(self, order: np.ndarray, seeds: np.ndarray) -> Iterator[list[Row]]:
        rank, processes = self.share
        for start in range(0, len(order), self.size):
            own = slice(start + rank, min(start + self.size, len(order)), processes)
            rows = list(zip(order[own].tolist(), seeds[own].tolist(), strict=True))
            if rows:
                yield rows


class ShuffledBatches(EpochBatches):
    """The rows in random order, `passes` times in an epoch, without a smaller last batch."""

    def __init__(self, count: int, config: Config, share: tuple[int, int]) -> None:
        super().__init__(count, config.batch_size, share)
        self.seed, self.passes = config.seed, config.passes

    def __len__(self) -> int:
        return max(self.passes * self.count // self.size, 1)

    def __iter__(self) -> Iterator[list[Row]]:
        of_epoch = np.random.SeedSequence([self.seed, self.epoch])
        rng = np.random.default_rng(of_epoch)
        order = np.concatenate([rng.permutation(self.count) for _ in range(self.passes)])
        of_index = of_epoch.generate_state(len(order), np.uint64).reshape(self.passes, -1)
        seeds = np.take_along_axis(of_index, order.reshape(self.passes, -1), 1).ravel()
        kept = len(self) * self.size
        yield from self.divide(order[:kept], seeds[:kept] >> np.uint64(1))  # torch takes 63 bits


class EvaluationPictures(Dataset[Batch]):
    """Pictures exactly as the card says, and their labels."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitems__(self, rows: list[Row]) -> Batch:
        index = np.array([row for row, _ in rows])
        pictures = np.ascontiguousarray(self.split.pictures[index])
        return torch.from_numpy(pictures), torch.from_numpy(self.split.labels[index])


class TrainingPictures(Dataset[Batch]):
    """Augmented pictures, and their labels: with MixUp and CutMix (n, K), the share of each."""

    def __init__(self, split: Split, config: Config, classes: int) -> None:
        self.split, self.classes = split, classes
        self.transforms = PictureTransforms(config.augment, config.input)
        self.files = get_file_pictures(split.pictures) if config.augment.resized_crop else None
        self.mix = make_mix(config.augment, classes)

    def __getitems__(self, rows: list[Row]) -> Batch:
        index = np.array([row for row, _ in rows])
        labels = self.split.labels[index]
        pictures = None if self.files is not None else self.split.pictures[index]
        changed: list[ChangedPicture] = []
        with torch.random.fork_rng(devices=[]):  # without workers, dropout uses the same generator
            for place, (row, seed) in enumerate(rows):
                torch.default_generator.manual_seed(seed)
                mask = torch.from_numpy(labels[place]) if labels.ndim == 3 else None
                if pictures is None:
                    changed.append(self.change_file(row))
                else:
                    changed.append(self.transforms.change(pictures[place], mask))
            image, masks = self.transforms.finish(changed)  # (n, C, H, W)
            label = torch.from_numpy(labels) if masks is None else masks
            if self.mix:
                image, label = self.mix(image.float(), label)
        return image.permute(0, 2, 3, 1), label

    def change_file(self, row: int) -> ChangedPicture:
        """Change a random crop of a file and of its mask."""
        split = self.split
        assert self.files is not None
        path = self.files.find_path(row)
        if not isinstance(split, MaskSplit):
            return self.transforms.change_file(path)
        picture = decode_picture(path, self.files.input_spec.mode)
        mask = read_mask(split.files[row], self.classes)
        return self.transforms.change_picture(picture, torch.from_numpy(mask))


def make_mix(augment: Augmentation, classes: int) -> v2.Transform | None:
    """MixUp, CutMix, or one of them for each batch."""
    mixes: list[v2.Transform] = []
    if augment.mixup:
        mixes.append(v2.MixUp(num_classes=classes, alpha=augment.mixup))
    if augment.cutmix:
        mixes.append(v2.CutMix(num_classes=classes, alpha=augment.cutmix))
    return v2.RandomChoice(mixes) if mixes else None


def pass_on(batch: Any) -> Batch:
    """Nothing is left to collate: `__getitems__` makes a whole batch."""
    whole: Batch = batch
    return whole
