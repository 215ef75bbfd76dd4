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

from training.artifact import parity as verify
from training.imaging import preprocessing as pictures
from training.imaging.preprocessing import Input, Pixels, Run

ROTATED = 6  # EXIF: shown a quarter turn clockwise


def probes(
    run: Run,
    samples: Pixels,  # (N, H, W, C)
    wanted: Input,
    labels: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The card's `golden`: each the encoded picture, a target, and what comes of it."""
    found = []
    for index, pixels in enumerate(samples[surest(run, samples)]):
        content = encode(framed(pixels, wanted, turned=index == 1), rotated=index == 1)
        image = pictures.read(content, wanted)[None]  # (1, H, W, C)
        target = -1 if index == 0 else int(np.argsort(verify.run_once(run, image, 0)[0][0])[-2])
        logits, probabilities, cam = run(image, np.array([[target]]))
        found.append(
            {
                "image": base64.b64encode(content).decode(),
                "target": target,
                "label": labels[int(logits[0].argmax())],
                "probabilities": rounded(probabilities[0]),
                "cam": [rounded(row) for row in cam[0, 0]],
            }
        )
    return found


def surest(run: Run, samples: Pixels) -> list[int]:
    """The two samples with the clearest answers, of different classes where there are."""
    logits = verify.run_once(run, samples, 0)[0]
    best = logits.argmax(1)
    ahead = np.sort(logits)[:, -1] - np.sort(logits)[:, -2]
    order = list(np.argsort(-ahead))
    second = next((i for i in order if best[i] != best[order[0]]), order[1])
    return [order[0], second]


def framed(pixels: Pixels, wanted: Input, turned: bool) -> Image.Image:
    """The sample in the middle of a wider picture; dark on light where `turned` and made for it.

    At twice or half the size that is wanted, but in the size itself if it will be turned: turned
    before or after a resize, pixels are a level off, and by that some maps change by hundredths.
    """
    image = pictures.image_of(pixels)
    if turned and wanted.resize is None:
        return image
    side = wanted.resize or wanted.height
    height = side if turned else side // 2 if side > 100 else 2 * side
    image = image.resize((height, height), Image.Resampling.BILINEAR)
    wide = Image.new(image.mode, (height * 3 // 2 // 2 * 2, height))
    wide.paste(image, ((wide.width - height) // 2, 0))
    dark = turned and wanted.dark_on_light
    return Image.eval(wide, lambda value: 255 - value) if dark else wide


def encode(image: Image.Image, rotated: bool) -> bytes:
    """A PNG; lying on its side, with the orientation that sets it upright, where asked."""
    buffer = BytesIO()
    exif = Image.Exif()
    if rotated:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = ROTATED
    image.save(buffer, "PNG", optimize=True, **({"exif": exif} if rotated else {}))
    return buffer.getvalue()


def rounded(values: NDArray[np.float32]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]
