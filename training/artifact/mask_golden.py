"""Golden tests of masks: two encoded pictures with the graph's answers.

The pictures are those of `golden`. The first asks for the largest class over the whole picture, the
second for a named class in a box.
"""

import base64
from typing import Any

import numpy as np
from PIL import Image

from training.artifact.golden import encode_png, pad_to_wider_image, round_values
from training.gradcam.masks.pixels import TARGET_CLASS
from training.graph.session import MaskRunner
from training.imaging.preprocessing import Input, Pixels, load_pixels


def make_mask_golden_tests(
    run: MaskRunner,
    samples: Pixels,  # (N, H, W, C)
    input_spec: Input,
    labels: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The card's `golden`: encoded pictures, with a target, a region and the answer."""
    found = []
    height, width = input_spec.height, input_spec.width
    boxes = ((0, 0, width, height), (width // 8, height // 8, width - width // 8, height))
    for turned, index in enumerate(pick_clearest_masks(run, samples, len(labels))):
        picture = pad_to_wider_image(samples[index], input_spec, bool(turned))
        content = encode_png(picture, rotated=bool(turned))
        image = load_pixels(content, input_spec)[None]
        target = -1 if not turned else count_classes(run, image, len(labels))[0].argsort()[-2]
        region = np.array([[[TARGET_CLASS, *boxes[turned]]]])
        mask, _, cam = run(image, np.array([[target]]), region)
        counts = np.bincount(mask.ravel(), minlength=len(labels))
        shares = (counts / mask.size).astype(np.float32)
        found.append(
            {
                "image": base64.b64encode(content).decode(),
                "target": int(target),
                "region": region[0, 0].tolist(),
                "label": labels[int(shares.argmax())],
                "shares": round_values(shares),
                "mask": base64.b64encode(encode_png(Image.fromarray(mask[0]), False)).decode(),
                "cam": [round_values(row) for row in cam[0, 0]],
            }
        )
    return found


def pick_clearest_masks(run: MaskRunner, samples: Pixels, classes: int) -> list[int]:
    """The two samples whose second largest class has most pixels."""
    counts = np.concatenate([count_classes(run, image[None], classes) for image in samples])
    return [int(i) for i in np.sort(counts, 1)[:, -2].argsort()[::-1][:2]]


def count_classes(run: MaskRunner, image: Pixels, classes: int) -> np.ndarray:
    """The number of pixels of each class in pictures: (N, K)."""
    n = len(image)
    mask = run(image, np.zeros((n, 0), np.int64), np.zeros((n, 0, 5), np.int64))[0]
    return np.stack([np.bincount(row.ravel(), minlength=classes) for row in mask])
