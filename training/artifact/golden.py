"""Two pictures with the answers the exported graph gives: what any server of it must reproduce.

One is larger or smaller than the network's input and not of its shape, one is rotated by EXIF and
dark on light, so that the whole way from bytes to pixels is tried.
"""

import base64
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.graph.session import run_for_top1
from training.imaging.preprocessing import GraphRunner, Input, Pixels, load_pixels, to_pil_image

ROTATED_ORIENTATION = 6  # EXIF: shown a quarter turn clockwise


def make_golden_tests(
    run: GraphRunner,
    samples: Pixels,  # (N, H, W, C)
    wanted: Input,
    labels: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The card's `golden`: each the encoded picture, a target, and what comes of it."""
    found = []
    for index, pixels in enumerate(samples[pick_clearest_samples(run, samples)]):
        content = encode_png(
            pad_to_wider_image(pixels, wanted, turned=index == 1), rotated=index == 1
        )
        image = load_pixels(content, wanted)[None]  # (1, H, W, C)
        target = -1 if index == 0 else int(np.argsort(run_for_top1(run, image, 0)[0][0])[-2])
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
    """The two samples with the clearest answers, of different classes where there are."""
    logits = run_for_top1(run, samples, 0)[0]
    best = logits.argmax(1)
    ahead = np.sort(logits)[:, -1] - np.sort(logits)[:, -2]
    order = list(np.argsort(-ahead))
    second = next((i for i in order if best[i] != best[order[0]]), order[1])
    return [order[0], second]


def pad_to_wider_image(pixels: Pixels, wanted: Input, turned: bool) -> Image.Image:
    """The sample in the middle of a wider picture; dark on light where `turned` and made for it.

    At twice or half the size that is wanted, but in the size itself if it will be turned: turned
    before or after a resize, pixels are a level off, and by that some maps change by hundredths.
    """
    image = to_pil_image(pixels)
    if turned and wanted.resize is None:
        return image
    side = wanted.resize or wanted.height
    height = side if turned else side // 2 if side > 100 else 2 * side
    image = image.resize((height, height), Image.Resampling.BILINEAR)
    wide = Image.new(image.mode, (height * 3 // 2 // 2 * 2, height))
    wide.paste(image, ((wide.width - height) // 2, 0))
    dark = turned and wanted.dark_on_light
    return Image.eval(wide, lambda value: 255 - value) if dark else wide


def encode_png(image: Image.Image, rotated: bool) -> bytes:
    """A PNG; lying on its side, with the orientation that sets it upright, where asked."""
    buffer = BytesIO()
    exif = Image.Exif()
    if rotated:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = ROTATED_ORIENTATION
    image.save(buffer, "PNG", optimize=True, **({"exif": exif} if rotated else {}))
    return buffer.getvalue()


def round_values(values: NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]
