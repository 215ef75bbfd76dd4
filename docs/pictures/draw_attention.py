"""Draws xray-attention.png for docs/tutorials/chest-xrays.md: where a network looks on average, by
its answers. It prints how often the hottest cell is in a corner or at an edge. Run it in the root,
with the X-rays in SIGHTGLASS_DATA:
PYTHONPATH=. python docs/pictures/draw_attention.py runs/xray/best.pt
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from training.data.datasets import load_trained_dataset
from training.evaluate.mean_map import BORDER_WIDTH, summarize_maps
from training.fit.checkpoint import load_checkpoint
from training.gradcam.reference import compute_gradcam, find_layer, prepare_network

config, labels, model, _ = load_checkpoint(Path(sys.argv[1]))
split = load_trained_dataset(config, labels).get_split("test")
prepare_network(model)
layer = find_layer(model.network, "layer4")
cams, answers = [], []
for start in range(0, len(split), 32):
    image = torch.from_numpy(np.ascontiguousarray(split.pictures[start : start + 32]))
    found = compute_gradcam(model, image, torch.full((len(image), 1), -1), layer)
    cams.append(found.cam[:, 0].numpy())
    answers.append(found.logits.argmax(1).numpy())
maps, answer = np.concatenate(cams), np.concatenate(answers)
summary = summarize_maps(maps, answer, labels)
side = maps.shape[1]
row, column = np.unravel_index(maps.reshape(len(maps), -1).argmax(1), maps.shape[1:])
ends = (0, side - 1)
rows, columns = np.isin(row, ends), np.isin(column, ends)
print(f"{(rows & columns).sum()} of {len(maps)} have the hottest cell in a corner")
figure = Figure((5, 2.3))
for index, label in enumerate(labels):
    seen, own = summary["classes"][label], answer == index
    most, cell = max(
        (int((own & (row == i) & (column == j)).sum()), (i, j)) for i, j in np.ndindex(side, side)
    )
    print(
        f"{label}: {seen['border_share']:.1%} of the heat at the border; the hottest cell is at an "
        f"edge in {(rows | columns)[own].mean():.1%}, most often ({most} of {own.sum()}) it is "
        f"row {cell[0]}, column {cell[1]}"
    )
    axes = figure.add_subplot(1, 2, index + 1)
    shown = axes.imshow(seen["mean"], vmin=0, vmax=1)
    near, far = (side * share - 0.5 for share in (BORDER_WIDTH, 1 - BORDER_WIDTH))
    axes.plot([near, far, far, near, near], [near, near, far, far, near], "w:", linewidth=1)
    axes.set_title(f"{label} ({seen['count']} pictures)", fontsize=8)
    axes.axis("off")
figure.colorbar(shown, ax=figure.axes)
figure.savefig("docs/pictures/xray-attention.png", dpi=80, bbox_inches="tight")
