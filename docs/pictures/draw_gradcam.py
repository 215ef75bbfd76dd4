"""Draws gradcam.jpg for docs/how-grad-cam-works.md, from the bundled model: run it in the root.

What the graph computes on its way to `cam`, the channels' maps A and weights alpha, is made an
output as well; nothing is computed anew here.
"""

import io
import json

import matplotlib
import numpy as np
import onnx
import onnxruntime
from matplotlib.figure import Figure
from PIL import Image

MODEL, PICTURE = "models/efficientnet_lite0/1/model.onnx", "docs/examples/dog_and_cat.jpg"
TARGETS = ("bull mastiff", "tiger cat")
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
CHANNELS = 3  # drawn of each target, those that add most where its map is hottest


def open_up(model):
    """The graph with alpha (N, T, K) and A (N, K, h w) as outputs; their names."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers["cam"]
    while node.op_type != "MatMul":
        node = makers[node.input[0]]
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in node.input if n not in known)
    return list(node.input)


def crop(picture, side, resize, interpolation):
    """The pixels that the network sees: (1, side, side, 3) uint8."""
    scale = resize / min(picture.size)
    how = Image.Resampling[interpolation.upper()]
    picture = picture.resize([round(scale * length) for length in picture.size], how)
    left, top = ((length - side) // 2 for length in picture.size)
    return np.asarray(picture.crop((left, top, left + side, top + side)))[None]


def enlarge(values, size):
    """Bilinear, as the service does it."""
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, 2))


def show(axes, values, title, **options):
    axes.imshow(values, **options)
    axes.set_title(title, fontsize=8)
    axes.axis("off")


model = onnx.load(MODEL)
card = json.loads(next(p.value for p in model.metadata_props if p.key == "sightglass"))
outputs = ["probabilities", "cam", *open_up(model)]
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
wanted = card["input"]
picture = Image.open(PICTURE).convert("RGB")
image = crop(picture, wanted["height"], wanted["resize"], wanted["interpolation"])
indices = [card["labels"].index(label) for label in TARGETS]
p, cam, alpha, a = session.run(outputs, {"image": image, "target": np.array([indices], np.int64)})
h, w = cam.shape[2:]
a = a.reshape(-1, h, w)  # (K, h, w)
brightest = a.max()

figure = Figure((11, 3.9), facecolor="white")
rows, columns = len(TARGETS), CHANNELS + 3
for row, (label, index) in enumerate(zip(TARGETS, indices, strict=True)):
    axes = [figure.add_subplot(rows, columns, row * columns + i + 1) for i in range(columns)]
    weight = alpha[0, row]  # (K,)
    share = weight * a.reshape(len(a), -1)[:, cam[0, row].argmax()]
    show(axes[0], image[0], f"“{label}” ({p[0, index]:.1%})\nwhat the network sees")
    for i, k in enumerate(np.argsort(-share)[:CHANNELS]):
        title = f"channel {k} of {len(a)}\n{ALPHA} = {1000 * weight[k]:+.2f} · 10⁻³"
        show(axes[1 + i], a[k], title, cmap="gray", vmin=0, vmax=brightest)
    largest = np.abs(cam[0, row]).max()
    colours = {"cmap": "PuOr_r", "vmin": -largest, "vmax": largest}
    show(axes[-2], cam[0, row], f"Σ {ALPHA} A, signed\n{h} x {w}", **colours)
    heat = np.maximum(cam[0, row], 0)
    heat = enlarge(heat / heat.max(), image.shape[1:3])[..., None]
    colour = matplotlib.colormaps["viridis"](heat[..., 0])[..., :3]
    blended = image[0] / 255 * (1 - 0.6 * heat) + colour * 0.6 * heat
    show(axes[-1], blended.clip(0, 1), "ReLU, enlarged,\nover the picture")
figure.tight_layout(h_pad=1.5)
buffer = io.BytesIO()
figure.savefig(buffer, dpi=90)
Image.open(buffer).convert("RGB").save("docs/pictures/gradcam.jpg", quality=88, subsampling=0)
