"""Accepted picture formats, and the pixels that the model sees."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.pictures import (
    STORE,
    animate,
    announce_size,
    cut_short,
    halve,
    paint,
    read,
    turn,
)
from tests.heic import HEIC
from tests.server import Server
from tests.service.quadrants_model import encode, light
from tests.tiff import WHITE_IS_ZERO, write_tiff

JSON = {"accept": "application/json"}
LIGHT = light(1)


def read_quarters(server: Server, content: bytes) -> list[float]:
    """Return the brightness 0..1 of the four quarters that the model saw, from its logits."""
    response = server.client.post(
        "/gradcam", content=content, params={"target_index": 0}, headers=JSON
    )
    assert response.status_code == 200, response.text
    cam = np.array(response.json()["explanations"][0]["cam"])  # (4, 4): 1, -0.1, -0.1, -0.1 times
    levels = cam / np.kron([[1, -0.1], [-0.1, -0.1]], np.ones((2, 2)))
    quarters = levels.reshape(2, 2, 2, 2).mean((1, 3)).ravel()
    return [round(float(level), 3) for level in quarters]


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"progressive": True, "quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {"quality": 90}),
        ("AVIF", {"quality": 90, "subsampling": "4:4:4"}),
        (HEIC, {}),
        (HEIC, {"chroma": "444", "tile_size": 64}),
    ],
)
def test_jpeg_png_webp_gif_bmp_tiff_avif_and_heic_are_accepted(
    server: Server, file_format: str, options: dict[str, Any]
) -> None:
    seen = read_quarters(server, encode(LIGHT, file_format, **options))
    assert seen == pytest.approx([0, 1, 0, 0], abs=0.02)


def test_an_mpo_is_read_as_its_first_jpeg(server: Server) -> None:
    mpo = encode(LIGHT, "MPO", save_all=True, append_images=[paint(0, LIGHT.size)], quality=95)
    assert read_quarters(server, mpo) == pytest.approx([0, 1, 0, 0], abs=0.02)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", HEIC])
def test_an_animation_is_read_as_its_first_frame(server: Server, file_format: str) -> None:
    frames = [LIGHT, light(2, LIGHT.size), paint(255, LIGHT.size)]
    assert read_quarters(server, animate(frames, file_format)) == pytest.approx(
        [0, 1, 0, 0], abs=0.01
    )


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORE)
def test_exif_orientation_is_applied(server: Server, orientation: int, file_format: str) -> None:
    content = turn(light(1, (64, 48)), orientation, file_format)
    upright = read_quarters(server, encode(light(1, (64, 48))))
    assert read_quarters(server, content) == upright
    answer = server.client.post("/gradcam?size=0&alpha=0", content=content)
    assert read(answer.content).tolist() == np.asarray(light(1, (64, 48))).tolist()
    reported = server.client.post("/predict", content=content).json()["image"]
    assert reported == {"width": 64, "height": 48}


@pytest.mark.parametrize("file_format", ["JPEG", "AVIF", HEIC])
@pytest.mark.parametrize("orientation", STORE)
def test_exif_orientation_of_a_lossy_picture_is_applied(
    server: Server, orientation: int, file_format: str
) -> None:
    content = turn(light(1, (64, 48)), orientation, file_format)
    drawn = read(server.client.post("/gradcam?size=0&alpha=0", content=content).content)
    assert drawn.shape == (48, 64, 3)
    difference = drawn.astype(int) - np.asarray(light(1, (64, 48)))
    assert np.abs(difference[:20, :28]).max() < 40  # without the edges, which JPEG blurs
    assert np.abs(difference[:20, 36:]).max() < 40


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_undefined_exif_orientation_is_ignored(server: Server, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_quarters(server, encode(LIGHT, "PNG", exif=exif)) == [0, 1, 0, 0]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_composed_on_white(server: Server, file_format: str) -> None:
    clear = paint((0, 0, 0, 0), mode="RGBA")
    half = paint((0, 0, 0, 127), mode="RGBA")
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    seen = read_quarters(server, encode(halve(clear, half), file_format, **options))
    assert seen == pytest.approx([1, 128 / 255, 1, 128 / 255], abs=0.005)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("AVIF", {"quality": 100, "subsampling": "4:4:4"}), (HEIC, {"quality": -1, "chroma": "444"})],
)
def test_transparent_pixels_of_a_lossy_picture_are_composed_on_white(
    server: Server, file_format: str, options: dict[str, Any]
) -> None:
    clear, half = paint((0, 0, 0, 0), mode="RGBA"), paint((0, 0, 0, 127), mode="RGBA")
    content = encode(halve(clear, half), file_format, **options)
    seen = read_quarters(server, content)
    assert seen == pytest.approx([1, 128 / 255, 1, 128 / 255], abs=0.02)


@pytest.mark.parametrize("mode", ["LA", "PA"])
def test_transparent_grays_and_palettes_are_composed_on_white(server: Server, mode: str) -> None:
    picture = halve(paint((0, 0), mode="LA"), paint((0, 255), mode="LA"))
    content = (
        encode(picture.convert(mode), "TIFF" if mode == "PA" else "PNG")
        if mode == "LA"
        else (encode(picture.convert("RGBA").quantize(), "PNG"))
    )
    assert read_quarters(server, content) == pytest.approx([1, 0, 1, 0], abs=0.01)


def test_a_transparent_palette_entry_or_colour_is_read_as_white(server: Server) -> None:
    palette = halve(paint((0, 0, 0)), paint((9, 9, 9))).quantize(4)
    entry = palette.getpixel((0, 0))
    assert read_quarters(server, encode(palette, "GIF", transparency=entry)) == pytest.approx(
        [1, 9 / 255, 1, 9 / 255], abs=0.01
    )
    keyed = encode(halve(paint((1, 2, 3)), paint(0)), "PNG", transparency=(1, 2, 3))
    assert read_quarters(server, keyed) == pytest.approx([1, 0, 1, 0], abs=0.01)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_values_are_scaled_not_clipped(server: Server, file_format: str) -> None:
    deep = np.full((32, 32), 16448, np.uint16)  # 64 / 255 of white
    deep[:, 16:] = 65535
    content = encode(Image.fromarray(deep), file_format)
    assert read_quarters(server, content) == pytest.approx([64 / 255, 1, 64 / 255, 1], abs=0.003)


def test_16_bit_transparency_is_read_as_white(server: Server) -> None:
    deep = np.zeros((32, 32), np.uint16)
    deep[:, 16:] = 65535
    content = encode(Image.fromarray(deep), "PNG", transparency=0)
    assert read_quarters(server, content) == [1, 1, 1, 1]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_black_and_white_gray_and_palette_images_are_accepted(server: Server, mode: str) -> None:
    assert read_quarters(server, encode(LIGHT.convert(mode))) == [0, 1, 0, 0]


def test_palette_entries_are_read_as_colours(server: Server) -> None:
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.paste(1, (16, 0, 32, 32))
    assert read_quarters(server, encode(palette)) == [1, 0, 1, 0]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_is_converted_to_rgb(server: Server, file_format: str) -> None:
    content = encode(LIGHT.convert("CMYK"), file_format)
    assert read_quarters(server, content) == pytest.approx([0, 1, 0, 0], abs=0.03)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_sampling_factors_is_rejected_as_corrupt(
    server: Server, progressive: bool
) -> None:
    content = bytearray(encode(LIGHT.convert("RGB"), "JPEG", progressive=progressive))
    frame = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    for component in range(3):
        content[frame + 11 + 3 * component] = 0
    response = server.client.post("/predict", content=bytes(content))
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_image"


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (2, 3), (31, 33), (4000, 3)])
def test_pictures_of_any_shape_are_accepted(server: Server, size: tuple[int, int]) -> None:
    content = encode(paint(51, size))
    assert read_quarters(server, content) == [0.2, 0.2, 0.2, 0.2]
    answer = server.client.post("/gradcam", content=content)
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert max(drawn.size) == min(max(*size, 224), 1024)


@pytest.mark.parametrize(
    "content",
    [
        b"no picture at all",
        b"\0",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0",
        encode(LIGHT, "ICO"),
        encode(LIGHT, "PPM"),
        b"\0\0\0\x20ftypisom" + bytes(20),
    ],
    ids=["text", "nul", "pdf", "svg", "wav", "ico", "ppm", "mp4"],
)
def test_bytes_in_no_accepted_format_are_unsupported(server: Server, content: bytes) -> None:
    response = server.client.post("/predict", content=content)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"
    assert "JPEG, PNG, WEBP, AVIF, GIF, BMP, TIFF" in response.json()["error"]["message"]


NOISE = Image.effect_noise((300, 200), 80).convert("RGB")
TRUNCATED = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", HEIC)


@pytest.mark.parametrize("call", ["/predict", "/gradcam"])
@pytest.mark.parametrize(
    "content",
    [
        *(cut_short(encode(NOISE, name)) for name in TRUNCATED),
        encode(NOISE, "PNG")[:20],
        encode(NOISE, "PNG").replace(b"IDAT", b"IDAT\xff\xff", 1),
        b"\xff\xd8\xff",
        b"GIF89a",
        b"\0\0\0\x20ftypavif",
        b"\0\0\0\x20ftypheic",
    ],
    ids=[*TRUNCATED, "header", "corrupt", "start", "gif start", "avif start", "heic start"],
)
def test_a_truncated_or_corrupt_picture_is_invalid(
    server: Server, content: bytes, call: str
) -> None:
    response = server.client.post(call, content=content)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_image"


@pytest.mark.parametrize("call", ["/predict", "/gradcam"])
def test_too_many_pixels_are_rejected_from_the_header(server: Server, call: str) -> None:
    response = server.client.post(call, content=announce_size(100_000, 100_000))
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "image_too_large"
    assert "50000000" in response.json()["error"]["message"]


def test_a_whole_tiff_of_an_unsupported_kind_is_not_called_corrupt(server: Server) -> None:
    bands = write_tiff(np.zeros((32, 32, 5), np.uint8))
    response = server.client.post("/predict", content=bands)
    assert (response.status_code, response.json()["error"]["code"]) == (
        415,
        "unsupported_media_type",
    )
    assert "TIFF with 5 samples of 8 bits per pixel" in response.json()["error"]["message"]


@pytest.mark.parametrize("byte_order", "<>")
def test_a_16_bit_tiff_with_white_as_0_is_not_a_negative(server: Server, byte_order: str) -> None:
    dark = np.full((32, 32), 65535, np.uint16)
    dark[:16, :16] = 0  # the first quarter is white
    quarters = read_quarters(server, write_tiff(dark, byte_order, WHITE_IS_ZERO))
    assert quarters == [1, 0, 0, 0]
