"""What is done to a whole batch at once: bending, fading, noise and erasing.

A small picture costs a fraction of what it costs alone. Each picture has random numbers of its own,
so they do not depend on how a batch is divided. Bending interpolates, so it also does what
`RandomMove` does to pictures that are not bent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import IGNORED
from training.imaging.random_move import MOVES, make_matrices

BENDS = 5  # per side: the points that bending moves


class Box(NamedTuple):
    """The rectangle of a picture that is erased."""

    top: int
    left: int
    height: int
    width: int


class Numbers(NamedTuple):
    """The random numbers of one picture."""

    uniform: torch.Tensor  # (M,) in 0..1: for the move, black, white and the strength of noise
    normal: torch.Tensor  # (B,): for the bends, then for each value of the picture
    erased: Box | None


class Distortion:
    """The changes of batches whose pictures have one size."""

    def __init__(
        self, augment: Augmentation, height: int, width: int, mean: tuple[float, ...]
    ) -> None:
        self.augment, self.size = augment, (height, width)
        self.uniform = MOVES + 3 if augment.elastic or augment.fade or augment.noise else 0
        self.bends = 2 * BENDS * BENDS if augment.elastic else 0
        self.normal = self.bends + (len(mean) * height * width if augment.noise else 0)
        self.blank = torch.empty(len(mean), height, width, device="meta")
        self.choose_box = v2.RandomErasing()
        self.mean = 255 * torch.tensor(mean)[:, None, None]  # (C, 1, 1)
        self.spread = upsample(height), upsample(width)
        rows, columns = ((torch.arange(side) * 2 + 1) / side - 1 for side in (height, width))
        places = torch.meshgrid(columns, rows, indexing="xy")
        self.places = torch.stack(places).flatten(1)  # (2, HW) in -1..1

    def draw(self) -> Numbers:
        """The random numbers of the next picture."""
        erased = None
        if self.augment.erase and float(torch.rand(())) < self.augment.erase:
            box = self.choose_box.make_params([self.blank])
            erased = Box(box["i"], box["j"], box["h"], box["w"])
        return Numbers(torch.rand(self.uniform), torch.randn(self.normal), erased)

    def apply(
        self, x: torch.Tensor, mask: torch.Tensor | None, numbers: Sequence[Numbers]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Change pictures (n, C, H, W) of 0..255 and their masks (n, H, W)."""
        uniform = torch.stack([each.uniform for each in numbers])
        normal = torch.stack([each.normal for each in numbers])
        if self.augment.elastic:
            moves, bends = uniform[:, :MOVES], normal[:, : self.bends]
            x, mask = self.bend(x, mask, moves, bends.reshape(-1, 2, BENDS, BENDS))
        if self.augment.fade:
            black, white = (
                self.augment.fade * uniform[:, MOVES : MOVES + 2].T[..., None, None, None]
            )
            x = 255 * black + x * (1 - black - white)
        if self.augment.noise:
            strength = 255 * self.augment.noise * uniform[:, -1, None, None, None]
            x = (x + strength * normal[:, self.bends :].reshape(x.shape)).clamp(0, 255)
        for picture, (_, _, box) in zip(x, numbers, strict=True):
            if box:
                rows, columns = (slice(at, at + n) for at, n in (box[::2], box[1::2]))
                picture[:, rows, columns] = self.mean
        return x, mask

    def bend(
        self, x: torch.Tensor, mask: torch.Tensor | None, moves: torch.Tensor, bends: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Move the pixels smoothly, in other directions in other places.

        By numbers of 0..1 for the whole picture (n, 5), and of bends (n, 2, 5, 5).
        """
        count, (height, width) = len(x), self.size
        high, wide = self.spread  # (H, 5), (W, 5)
        bent = high @ (2 * self.augment.elastic * bends) @ wide.T  # (n, 2, H, W) in -1..1
        places = self.places + bent.flatten(2)  # (n, 2, HW)
        if self.augment.moves:
            half = torch.tensor([[width], [height]]) / 2  # the matrices are in pixels
            matrix = torch.from_numpy(make_matrices(self.augment, moves.numpy(), width, height))
            moved_places = matrix[..., :2].float() @ (half * (places + 1)) + matrix[..., 2:].float()
            places = moved_places / half - 1
        grid = places.reshape(count, 2, height, width).permute(0, 2, 3, 1)  # (n, H, W, 2)
        padding = self.augment.padding
        moved = F.grid_sample(x.float(), grid, "bilinear", padding, align_corners=False)
        if mask is None:
            return moved.clamp(0, 255), None
        # Outside is 0 for the sampling: so is what a mask ignores.
        inverted = (IGNORED - mask.float())[:, None]
        found = F.grid_sample(inverted, grid, "nearest", padding, align_corners=False)[:, 0]
        return moved.clamp(0, 255), (IGNORED - found).round().to(torch.uint8)


def upsample(side: int) -> torch.Tensor:
    """The matrix (side, 5) that interpolates between the points of `bend`."""
    points = torch.eye(BENDS)[None, :, :, None]  # (1, 5, 5, 1)
    size = [side, 1]
    return F.interpolate(points, size, mode="bicubic", align_corners=True)[0, :, :, 0].T
