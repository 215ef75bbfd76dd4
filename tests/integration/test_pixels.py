"""The service and the training make the same pixels of a file, and they are the right ones.

The two never import each other, so each has its own copy of the rules. Here both are imported.
"""

import inspect
import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

import service.imaging.color_modes
import service.imaging.decoding
import training.imaging.color_modes
import training.imaging.decoding
from service.artifact.card import InputSpec
from service.imaging.decoding import decode_image, open_image
from service.settings import Settings
from tests import tiff
from tests.contract.pictures import STORE, animate, turn
from tests.heic import HEIC
from tests.server import ROOT
from tests.service.quadrants_model import encode
from training.imaging.preprocessing import Input, load_pixels

WIDTH, HEIGHT = 48, 40
MAX_PIXELS = 10**6
ROUNDING = 0.54  # to 12 bits, then to 8
Array = np.ndarray[Any, Any]


def draw() -> Array:
    """Levels (H, W) of 0.15 to 0.85. No rotation or reflection leaves them unchanged."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return 0.15 + 0.35 * (x + y * y)


GRAY = draw()
COLOR = np.stack([GRAY, 1 - GRAY, GRAY * GRAY], axis=-1)  # (H, W, 3)
DEEP_GRAYS: dict[str, tuple[float, str]] = {  # the number for white, and its type
    "8 bits": (255, "u1"),
    "8 bits, signed": (127, "i1"),
    "16 bits": (65535, "u2"),
    "12 of 16 bits": (4095, "u2"),
    "8 of 16 bits": (255, "u2"),
    "16 bits, signed": (32767, "i2"),
    "32 bits": (2**32 - 1, "u4"),
    "16 of 32 bits": (65535, "u4"),
    "32 bits, signed": (2**31 - 1, "i4"),
    "16 of 32 bits, signed": (65535, "i4"),
    "floating point to 1": (1, "f4"),
    "floating point to 255": (255, "f4"),
    "floating point to 4095": (4095, "f4"),
    "floating point to 65535": (65535, "f4"),
    "floating point of 64 bits": (1, "f8"),
}


def store(levels: Array, white: float, kind: str) -> Array:
    """The numbers of a picture whose white is stored as `white`."""
    numbers = levels * white
    return (numbers if kind[0] == "f" else np.rint(numbers)).astype(kind)


def decode_both(content: bytes, mode: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Array:
    """The pixels (H, W, C), after a check that both sides make the same."""
    spec = InputSpec.model_validate(
        {"mode": mode, "width": size[0], "height": size[1]}
        | {"resize": None, "crop": None, "interpolation": "bilinear"}
    )
    served = decode_image(open_image(content, MAX_PIXELS), spec).pixels
    trained = load_pixels(content, Input(mode, size[1], size[0], None, None))  # type: ignore[arg-type]
    assert served.tolist() == trained.tolist()
    return served


def check(content: bytes, levels: Array, tolerance: float = ROUNDING) -> None:
    """The pixels are those levels, up to rounding."""
    mode = "L" if levels.ndim == 2 else "RGB"
    found = decode_both(content, mode, (levels.shape[1], levels.shape[0]))
    expected = 255 * levels.reshape(found.shape)
    assert np.abs(found - expected).max() <= tolerance


@pytest.mark.parametrize("name", DEEP_GRAYS)
def test_a_gray_tiff_of_any_depth_byte_order_and_polarity_has_its_levels(name: str) -> None:
    white, kind = DEEP_GRAYS[name]
    polarities = {tiff.BLACK_IS_ZERO: GRAY, tiff.WHITE_IS_ZERO: 1 - GRAY}
    compressions = (tiff.NONE, tiff.DEFLATE)
    for (photometric, levels), byte_order, compression, planar in itertools.product(
        polarities.items(), "<>", compressions, (False, True)
    ):
        tags = {tiff.PLANAR: (2 if planar else 1,)}  # with one band it means nothing
        numbers = store(levels, white, kind)
        content = tiff.write_tiff(numbers, byte_order, photometric, compression, tags=tags)
        check(content, GRAY, 1.51 if kind == "i1" else ROUNDING)


@pytest.mark.parametrize("byte_order", "<>")
def test_a_gray_tiff_of_12_packed_bits_has_its_levels(byte_order: str) -> None:
    for photometric, levels in ((tiff.BLACK_IS_ZERO, GRAY), (tiff.WHITE_IS_ZERO, 1 - GRAY)):
        tags = {tiff.BITS: (12,)}
        content = tiff.write_tiff(store(levels, 4095, "u2"), byte_order, photometric, tags=tags)
        check(content, GRAY)


@pytest.mark.parametrize("orientation", STORE)
@pytest.mark.parametrize("name", ["8 bits", "16 bits", "12 of 16 bits", "floating point to 1"])
def test_a_tiff_of_any_depth_is_shown_upright(name: str, orientation: int) -> None:
    how = STORE[orientation]
    levels = GRAY if how is None else np.asarray(Image.fromarray(GRAY).transpose(how))
    numbers = store(levels, *DEEP_GRAYS[name])
    check(tiff.write_tiff(numbers, tags={tiff.ORIENTATION: (orientation,)}), GRAY)


@pytest.mark.parametrize("orientation", STORE)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "JPEG", "AVIF", HEIC])
def test_a_picture_of_any_format_is_shown_upright(
    file_format: str, depth: int, orientation: int
) -> None:
    if depth == 16 and file_format != "PNG":
        pytest.skip("only PNG and TIFF have 16 bits")
    image = Image.fromarray(store(GRAY, 2**depth - 1, f"u{depth // 8}"))
    check(
        turn(image, orientation, file_format),
        GRAY,
        5 if file_format in ("JPEG", "AVIF", HEIC) else ROUNDING,
    )


@pytest.mark.parametrize(("white", "tolerance"), [(65535, 1.01), (4095, ROUNDING), (255, ROUNDING)])
@pytest.mark.parametrize("compression", [tiff.NONE, tiff.DEFLATE])
@pytest.mark.parametrize("byte_order", "<>")
def test_a_color_tiff_of_16_bits_has_its_levels(
    byte_order: str, compression: int, white: int, tolerance: float
) -> None:
    numbers = store(COLOR, white, "u2")
    check(tiff.write_tiff(numbers, byte_order, tiff.RGB, compression), COLOR, tolerance)
    opaque = np.full((HEIGHT, WIDTH, 1), 1.0)
    for alpha in {white, 65535}:
        with_alpha = np.concatenate([numbers, store(opaque, alpha, "u2")], axis=-1)
        tags = {tiff.EXTRA_SAMPLES: (2,)}
        content = tiff.write_tiff(with_alpha, byte_order, tiff.RGB, compression, tags=tags)
        check(content, COLOR, tolerance)


@pytest.mark.parametrize("compression", [tiff.NONE, tiff.DEFLATE])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("depth", [8, 16])
def test_planes_and_inks_of_a_color_tiff_have_their_levels(
    depth: int, byte_order: str, planar: bool, compression: int
) -> None:
    key = np.zeros((HEIGHT, WIDTH, 1))
    for photometric, levels in (
        (tiff.RGB, COLOR),
        (tiff.CMYK, np.concatenate([1 - COLOR, key], axis=-1)),
    ):
        numbers = store(levels, 2**depth - 1, f"u{depth // 8}")
        check(tiff.write_tiff(numbers, byte_order, photometric, compression, planar), COLOR, 1.01)


@pytest.mark.parametrize(("white", "tolerance"), [(65535, 1.01), (4095, ROUNDING), (255, ROUNDING)])
def test_a_color_png_of_16_bits_has_its_levels(white: int, tolerance: float) -> None:
    import cv2

    done, content = cv2.imencode(".png", store(COLOR[..., ::-1], white, "u2"))
    assert done
    check(content.tobytes(), COLOR, tolerance)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "PA"])
@pytest.mark.parametrize("file_format", ["TIFF", "PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", HEIC])
def test_both_sides_make_the_same_pixels_of_every_mode_and_format(
    file_format: str, mode: str
) -> None:
    image = Image.fromarray(store(COLOR, 255, "u1"))
    image = image.convert("RGBA" if mode in ("LA", "RGBA", "PA") else "RGB")
    if image.mode == "RGBA":
        image.putalpha(Image.fromarray(store(1 - GRAY, 255, "u1")))
    try:
        if mode == "LAB":
            image = Image.merge("LAB", image.split())
        content = encode(image.convert(mode), file_format)
    except (OSError, ValueError):
        pytest.skip("Pillow does not write it")
    decode_both(content, "RGB")
    decode_both(content, "L")


def test_premultiplied_gray_is_composed_on_white() -> None:
    alpha = np.full_like(GRAY, 0.5)
    numbers = store(np.stack([GRAY / 2, alpha], axis=-1), 255, "u1")
    check(tiff.write_tiff(numbers, tags={tiff.EXTRA_SAMPLES: (1,)}), GRAY / 2 + 0.5, 2)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF"])
def test_both_sides_take_the_first_frame(file_format: str) -> None:
    first, second = (Image.fromarray(store(levels, 255, "u1")) for levels in (GRAY, 1 - GRAY))
    content = animate([first.convert("RGB"), second.convert("RGB")], file_format)
    check(content, GRAY, 2)


def test_transparent_numbers_of_a_deep_gray_png_are_white() -> None:
    numbers = store(GRAY, 4095, "u2")
    numbers[:10] = 65535
    content = encode(Image.fromarray(numbers), "PNG", transparency=65535)
    levels = GRAY.copy()
    levels[:10] = 1
    check(content, levels)


def test_a_picture_resized_and_cropped_is_nearly_the_same_on_both_sides() -> None:
    """The training resizes, then crops; the service does both in one step, without rounding."""
    image = Image.fromarray(store(COLOR, 255, "u1")).resize((1000, 700), Image.Resampling.BICUBIC)
    spec = InputSpec.model_validate(
        {"mode": "RGB", "width": 224, "height": 224}
        | {"resize": 256, "crop": "center", "interpolation": "bilinear"}
    )
    content = encode(image, "PNG")
    served = decode_image(open_image(content, MAX_PIXELS), spec).pixels
    trained = load_pixels(content, Input("RGB", 224, 224, 256))
    assert np.abs(served.astype(int) - trained).max() <= 2


@pytest.mark.parametrize("name", ["gray_scale", "file_kinds", "deep_color", "heic"])
def test_both_sides_have_the_same_copy_of_the_rules(name: str) -> None:
    served, trained = (
        (ROOT / side / "imaging" / f"{name}.py").read_text() for side in ("service", "training")
    )
    assert trained.replace("from training.", "from service.") == served, (
        f"Change service/imaging/{name}.py and training/imaging/{name}.py together."
    )


@pytest.mark.parametrize("name", ["compose_on_white", "convert_lab"])
def test_both_sides_convert_colors_alike(name: str) -> None:
    served, trained = (
        inspect.getsource(getattr(module, name))
        for module in (service.imaging.color_modes, training.imaging.color_modes)
    )
    assert trained == served


def test_both_sides_have_the_same_orientations_and_limit() -> None:
    turned = {key: how[0] for key, how in service.imaging.decoding.ORIENTATIONS.items()}
    assert turned == training.imaging.color_modes.ORIENTATIONS
    limit = Settings.model_fields["max_image_pixels"].default
    assert limit == training.imaging.decoding.DEFAULT_MAX_PIXELS


def test_broken_exif_data_does_not_stop_either_side() -> None:
    how = STORE[6]
    assert how is not None
    stored = Image.fromarray(store(GRAY, 255, "u1")).transpose(how)
    file = io.BytesIO()
    stored.save(file, "PNG", exif=tiff.write_exif_with_a_broken_rational(6))
    check(file.getvalue(), GRAY)
