"""Draws warnings.jpg for docs/explanation/warnings.md: what each bundled model says to ten pictures
unlike any it knows. Run it in the root, with the data sets in SIGHTGLASS_DATA and a running server:
python docs/pictures/draw_warnings.py http://127.0.0.1:3000. It prints the page's table.
"""

import io
import json
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

DATA, EXAMPLES = Path(os.environ["SIGHTGLASS_DATA"]), Path("docs/examples")
PHOTOGRAPHS = [EXAMPLES / f"{name}.jpg" for name in ("dog_and_cat", "parrot", "dragonfly")]
DIGITS = [EXAMPLES / f"{name}.png" for name in ("seven", "four", "seven_on_paper")]
SHORT = {"low_confidence": "not sure", "unfamiliar": "unfamiliar"}


def pick(folder, count):
    """The first files of a folder and its subfolders, spread evenly."""
    files = sorted(path for path in (DATA / folder).rglob("*") if path.is_file())
    return files[:: len(files) // count][:count]


def make_noise():
    """Coloured noise, as a file."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


TILES, XRAYS = pick("eurosat/test", 3), pick("chest_xray/test", 2)
CELLS = pick("segmentation/nuclei/test/images", 2)
STRANGE = {
    "lenet5": [*PHOTOGRAPHS, *TILES[:2], *XRAYS, *CELLS],
    "lenet5-relu": [*PHOTOGRAPHS, *TILES[:2], *XRAYS, *CELLS],
    "resnet18": [*PHOTOGRAPHS, *DIGITS[:2], *XRAYS, *CELLS],
    "efficientnet_lite0": [*TILES, *DIGITS[:2], *XRAYS, *CELLS],
}


def ask(url, model, content):
    """The top class of a picture and the codes of its warnings."""
    request = urllib.request.Request(f"{url}/predict?top_k=1&model={model}", content)
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    return answer["predictions"][0], [warning["code"] for warning in answer["warnings"]]


figure = Figure((10 * 1.4, len(STRANGE) * 2.15))
for row, (model, paths) in enumerate(STRANGE.items()):
    counts = dict.fromkeys(SHORT, 0) | {"any": 0}
    for column, content in enumerate([*(path.read_bytes() for path in paths), make_noise()]):
        top, codes = ask(sys.argv[1], model, content)
        for code in [*codes, *(["any"] if codes else [])]:
            counts[code] += 1
        axes = figure.add_subplot(len(STRANGE), 10, 10 * row + column + 1)
        axes.imshow(Image.open(io.BytesIO(content)).convert("RGB").resize((96, 96)))
        axes.axis("off")
        said = "\n".join(SHORT[code] for code in codes) or "no warning"
        label = top["label"] if len(top["label"]) < 15 else top["label"][:14] + "…"
        axes.set_title(
            f"{label}\n{top['probability']:.0%}\n{said}", fontsize=7, color="k" if codes else "r"
        )
        if column == 0:
            axes.text(-0.15, 0.5, model, transform=axes.transAxes, rotation=90, va="center",
                      ha="center", fontsize=8)  # fmt: skip
    print(f"| `{model}` | {counts['unfamiliar']} | {counts['low_confidence']} | {counts['any']} |")
buffer = io.BytesIO()
figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight")
Image.open(buffer).convert("RGB").save("docs/pictures/warnings.jpg", quality=82)
