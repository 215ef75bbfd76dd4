"""One epoch of the same network on the same pictures, in three loops, without worker processes.

Each has the same random crops and flips, batches, optimizer and precision (32 bits).
`torchvision_epoch` does what `references/classification/train.py` of torchvision does in one,
and `timm_epoch` what `train.py` of timm does, with its loader, optimizer, schedule and meters.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.transforms import v2

from training.config import Config
from training.data.datasets import load_dataset
from training.fit.loop import start_run
from training.fit.progress import Progress
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input

Epoch = Callable[[], object]
RATE, MOMENTUM = 0.01, 0.9
LEAST = 0.08  # of a picture's area, in its random crop
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def own_epoch(folder: Path, architecture: str, side: int, batch: int) -> Epoch:
    """The loop of this project, without its validation."""
    config = Config(
        "loop", architecture, str(folder), Input("RGB", side, side, side), batch_size=batch,
        optimizer="sgd", learning_rate=RATE, momentum=MOMENTUM, device="cpu",
        augment=Augmentation(resized_crop=LEAST, flip=True),
    )  # fmt: skip
    run = start_run(config, load_dataset(config))

    def epoch() -> None:
        with Progress(1, run.batches) as progress:
            run.train_epoch(progress)

    return epoch


def torchvision_epoch(folder: Path, architecture: str, side: int, batch: int) -> Epoch:
    """Torchvision's preset, loader and loop."""
    preset = v2.Compose(
        [
            v2.RandomResizedCrop(side, (LEAST, 1.0), antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    )
    data = torchvision.datasets.ImageFolder(str(folder / "train"), preset)
    loader = DataLoader(data, batch, sampler=RandomSampler(data), drop_last=True)
    network = torchvision.models.get_model(architecture, num_classes=len(data.classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM)

    def epoch() -> None:
        network.train()
        seen: list[tuple[float, int]] = []
        for image, target in loader:
            output = network(image)
            loss = criterion(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found = (
                output.topk(min(5, output.shape[1]), 1).indices == target[:, None]
            )  # top-1 and top-5
            seen.append((loss.item(), int(found[:, 0].sum()) + int(found.sum())))

    return epoch


def timm_epoch(folder: Path, architecture: str, side: int, batch: int) -> Epoch:
    """timm's loader, optimizer and schedule, in the order of its script."""
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    data = create_dataset("", root=str(folder), split="train", is_training=True, batch_size=batch)
    loader = create_loader(
        data, (3, side, side), batch, is_training=True, use_prefetcher=False, num_workers=0,
        persistent_workers=False, scale=(LEAST, 1.0), hflip=0.5, color_jitter=None,
        interpolation="bilinear", mean=MEAN, std=STD, device=torch.device("cpu"),
    )  # fmt: skip
    classes = len(data.reader.class_to_idx)
    network = torchvision.models.get_model(architecture, num_classes=classes)
    criterion = nn.CrossEntropyLoss()
    optimizer = create_optimizer_v2(network, "sgd", lr=RATE, momentum=MOMENTUM, weight_decay=0.0)
    schedule, _ = create_scheduler_v2(optimizer, num_epochs=100, updates_per_epoch=len(loader))

    def epoch() -> None:
        network.train()
        losses = AverageMeter()
        for step, (image, target) in enumerate(loader):
            loss = criterion(network(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(image))
            schedule.step_update(num_updates=step, metric=losses.avg)

    return epoch


LOOPS = {"ours": own_epoch, "torchvision": torchvision_epoch, "timm": timm_epoch}
