"""Not a test: measures how well the box finds what it should, at several thresholds.

The bundled models are tried on mosaics of four labelled pictures, where the box of a class should
be the picture of that class, and on digits, where it should surround the ink. A tiny model whose
maps are known is tried on drawn quarters. In single photographs nobody has marked what the box
should be. So there only its size counts. The data are in `SIGHTGLASS_DATA`.

Command: python -m tests.integration.boxes
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from service.imaging.geometry import Box
from service.imaging.saliency import find_box, normalize_cam
from tests.service import quadrants_model
from training.config import get_data_folder
from training.data.datasets import Split, load_mnist
from training.data.splits import SplitRules
from training.evaluate.pointing_game import make_mosaic, make_tile_index
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import GraphRunner, Input, Pixels, load_pixels
from training.report.model_card import read_card

THRESHOLDS = (0.15, 0.25, 0.35, 0.5, 0.65, 0.8)
MOSAICS = 200
DIGITS = 1000
INK = 128  # gray level from which a pixel belongs to the digit
WHOLE = 0.95  # share of the picture from which a box says nothing


class Case(NamedTuple):
    """A map, and the box that it should have, if that is known."""

    cam: NDArray[np.float32]  # (h, w), signed
    size: tuple[int, int]  # height and width of the input
    wanted: Box | None = None


def main() -> None:
    """Print a table for each model and kind of picture."""
    folder = get_data_folder()
    photographs, land_use = read_photographs(folder), read_land_use(folder)
    digits = load_mnist(SplitRules(0, 0, 0)).get_split("test")
    quarters = open_session(quadrants_model.make_graph(quadrants_model.make_card()))
    show("drawn quarters", list(light_quarters(quarters)))
    for name, pictures in (("efficientnet_lite0", photographs), ("resnet18", land_use)):
        run, input_spec, labels = open_bundled(name)
        split = decode(pictures, input_spec, labels)
        show(f"{name}, mosaics", list(arrange_mosaics(run, split)))
        show(f"{name}, single pictures", [case for _, case in explain_top1(run, split.pictures)])
    for name in ("lenet5", "lenet5-relu"):
        run, _, _ = open_bundled(name)
        some = digits.pictures[np.random.default_rng(0).permutation(len(digits))[:DIGITS]]
        found = explain_top1(run, some)
        show(name, [case._replace(wanted=surround(p.max(2) >= INK)) for p, case in found])


def show(title: str, cases: list[Case]) -> None:
    """Print a table of means. Empty maps have no box and count in none of them."""
    lines = [
        "",
        title,
        "",
        "| threshold | IoU | box inside | area | whole |",
        "|---|---|---|---|---|",
    ]
    maps = [(normalize_cam(case.cam, *case.size), case) for case in cases]
    found = [(heat, case) for heat, case in maps if heat.any()]
    for threshold in THRESHOLDS:
        each = np.array([judge(find_box(heat, threshold), case) for heat, case in found])
        iou, inside, area = each.mean(0)
        whole = (each[:, 2] >= WHOLE).mean()
        lines += [f"| {threshold} | {iou:.2f} | {inside:.2f} | {area:.2f} | {whole:.1%} |"]
    lines += [f"{len(cases)} maps, {len(cases) - len(found)} of them empty"]
    print("\n".join(lines), flush=True)  # noqa: T201


def judge(box: Box | None, case: Case) -> tuple[float, float, float]:
    """A box's IoU with the wanted one, the share of it inside that one, and of the picture in it.

    The first two are NaN where no box is wanted.
    """
    assert box
    height, width = case.size
    area = measure(box)
    if not (wanted := case.wanted):
        return np.nan, np.nan, area / (height * width)
    common = measure(
        Box(
            max(box.left, wanted.left),
            max(box.top, wanted.top),
            min(box.right, wanted.right),
            min(box.bottom, wanted.bottom),
        )
    )
    union = area + measure(wanted) - common
    return common / union, common / area, area / (height * width)


def measure(box: Box) -> float:
    """The area of a box; 0 if it is turned inside out."""
    return max(box.right - box.left, 0) * max(box.bottom - box.top, 0)


def surround(mask: NDArray[np.bool_]) -> Box:
    """The smallest box around the marked pixels of `mask` (H, W)."""
    rows, columns = np.nonzero(mask)
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def light_quarters(run: GraphRunner) -> Iterator[Case]:
    """Pictures with one bright quarter."""
    for quarter in range(4):
        picture = np.asarray(quadrants_model.light(quarter))
        (cam,) = run(picture[None], np.array([[quarter]]))[2][0]
        yield Case(cam, (32, 32), surround(picture.max(2) >= INK))


def arrange_mosaics(run: GraphRunner, split: Split) -> Iterator[Case]:
    """Mosaics of four pictures that the model classifies correctly, as the pointing game has."""
    answers = np.concatenate([run_for_top1(run, p[None], 0)[0].argmax(1) for p in split.pictures])
    right = split.select(np.flatnonzero(answers == split.labels))
    rng = np.random.default_rng(0)
    for _ in range(MOSAICS):
        classes = rng.choice(np.unique(right.labels), 4, replace=False)
        rows = [rng.choice(np.flatnonzero(right.labels == k)) for k in classes]
        image = make_mosaic(right.pictures[rows])
        for tile, cam in enumerate(run(image[None], classes[None])[2][0]):
            yield Case(cam, image.shape[:2], surround(make_tile_index(image.shape[:2]) == tile))


def explain_top1(run: GraphRunner, pictures: Pixels) -> Iterator[tuple[Pixels, Case]]:
    """Single pictures (H, W, C), with the map of the model's answer."""
    for picture in pictures:
        cam = run_for_top1(run, picture[None], 1)[2][0, 0]
        yield picture, Case(cam, picture.shape[:2])


def open_bundled(name: str) -> tuple[GraphRunner, Input, list[str]]:
    """A bundled model, what it reads, and its labels."""
    content = Path("models", name, "1", "model.onnx").read_bytes()
    card: dict[str, Any] = read_card(content)
    return open_session(onnx.load_from_string(content)), Input(**card["input"]), card["labels"]


def decode(pictures: list[tuple[Path, str]], input_spec: Input, labels: list[str]) -> Split:
    """Labelled files as pixels."""
    pixels = np.stack([load_pixels(file, input_spec) for file, _ in pictures])
    return Split(pixels, np.array([labels.index(label) for _, label in pictures]))


def read_photographs(folder: Path) -> list[tuple[Path, str]]:
    """The photographs with their labels."""
    with (folder / "photos" / "imagenet_classes.tsv").open(encoding="utf-8") as file:
        names = {row[1]: row[2] for row in csv.reader(file, delimiter="\t")}
    files = sorted((folder / "photos" / "imagenet").glob("*.JPEG"))
    return [(file, names[file.name.split("_")[0]]) for file in files]


def read_land_use(folder: Path, per_class: int = 40) -> list[tuple[Path, str]]:
    """Some test tiles of each class."""
    classes = sorted(path for path in (folder / "eurosat" / "test").iterdir() if path.is_dir())
    return [(file, path.name) for path in classes for file in sorted(path.iterdir())[:per_class]]


if __name__ == "__main__":
    main()
