"""Golden tests: two encoded pictures with the graph's answers, which every server must reproduce.

One picture differs from the network's input in size and shape. The other is rotated by EXIF and
dark on light. Together they cover the whole way from bytes to pixels.
"""

import base64
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.graph.session import run_for_top1
from training.imaging.preprocessing import GraphRunner, Input, Pixels, load_pixels, to_pil_image

ROTATED_ORIENTATION = 6  # EXIF: display rotated a quarter turn clockwise


def make_golden_tests(
    run: GraphRunner,
    samples: Pixels,  # (N, H, W, C)
    input_spec: Input,
    labels: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The card's `golden`: encoded pictures, each with a target and the graph's answer."""
    found = []
    for index, pixels in enumerate(samples[pick_clearest_samples(run, samples)]):
        content = encode_png(
            pad_to_wider_image(pixels, input_spec, turned=index == 1), rotated=index == 1
        )
        image = load_pixels(content, input_spec)[None]  # (1, H, W, C)
        target = -1 if index == 0 else int(np.argsort(run_for_top1(run, image, 0)[0][0])[-2:][0])
        logits, probabilities, cam = run(image, np.array([[target]]))
        found.append(
            {
                "image": base64.b64encode(content).decode(),
                "target": target,
                "label": labels[int(logits[0].argmax())],
                "probabilities": round_values(probabilities[0]),
                "cam": [round_values(row) for row in cam[0, 0]],
            }
        )
    return found


def pick_clearest_samples(run: GraphRunner, samples: Pixels) -> list[int]:
    """The two samples with the largest margin of the top-1, of different classes if possible."""
    logits = run_for_top1(run, samples, 0)[0]
    best = logits.argmax(1)
    two = np.sort(logits)[:, -2:]  # (N, 2), or (N, 1) if there is one label
    margin = two[:, -1] - two[:, 0]
    order = list(np.argsort(-margin))
    second = next((i for i in order if best[i] != best[order[0]]), order[1])
    return [order[0], second]


def pad_to_wider_image(pixels: Pixels, input_spec: Input, turned: bool) -> Image.Image:
    """The sample in the middle of a wider image; inverted if `turned` and the network inverts.

    The image has twice or half the network's size. If it will be turned it has that size itself:
    pixels that are turned before or after a resize differ by one level, and some maps then differ
    by hundredths.
    """
    image = to_pil_image(pixels)
    if turned and input_spec.resize is None:
        return image
    side = input_spec.resize or input_spec.height
    height = side if turned else side // 2 if side > 100 else 2 * side
    image = image.resize((height, height), Image.Resampling.BILINEAR)
    canvas = Image.new(image.mode, (height * 3 // 2 // 2 * 2, height))
    canvas.paste(image, ((canvas.width - height) // 2, 0))
    dark = turned and input_spec.dark_on_light
    return Image.eval(canvas, lambda value: 255 - value) if dark else canvas


def encode_png(image: Image.Image, rotated: bool) -> bytes:
    """Encode as PNG; `rotated` stores it on its side with the EXIF orientation that rights it."""
    buffer = BytesIO()
    exif = Image.Exif()
    if rotated:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = ROTATED_ORIENTATION
    image.save(buffer, "PNG", optimize=True, **({"exif": exif} if rotated else {}))
    return buffer.getvalue()


def round_values(values: NDArray[np.float32]) -> list[float]:
    """The values with eight significant digits, for JSON."""
    return [float(f"{value:.8g}") for value in values]
