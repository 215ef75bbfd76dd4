"""Converts pictures of every mode to opaque 8-bit pictures, turned as a viewer shows them.

Alpha is composed on white, deep grays are scaled, Lab is converted. This module knows Pillow's
modes; it knows nothing about files or networks. The service has the same rules in its own module of
this name.
"""

from typing import Any

from PIL import Image, ImageCms

from training.imaging.gray_scale import find_gray_scale, is_deep_gray, scale_gray

ORIENTATION_TAG = 0x0112
ORIENTATIONS = {  # EXIF orientation: how to turn the stored picture
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def convert_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return a decoded picture in mode "RGB" or "L", upright, with white behind it."""
    orientation = read_orientation(image)
    if is_deep_gray(image):
        image = scale_gray(find_gray_scale(image, (image,)), image)
    elif image.has_transparency_data:
        image = compose_on_white(image)
    elif image.mode == "LAB":
        image = convert_lab(image)
    image = image.convert(mode)
    turn = ORIENTATIONS.get(orientation)
    return image if turn is None else image.transpose(turn)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded picture. Pillow has already turned a TIFF."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # a picture with broken EXIF data is still a picture
        return 1


def compose_on_white(band: Image.Image) -> Image.Image:
    """Return an RGB picture with white behind its transparent pixels."""
    if band.mode == "La":
        band = band.convert("LA")  # the only mode that Pillow converts it to
    white = Image.new("RGBA", band.size, "white")
    white.alpha_composite(band.convert("RGBA"))
    return white.convert("RGB")


def convert_lab(band: Image.Image) -> Image.Image:
    """Return an RGB picture of a Lab one."""
    lab: Any = ImageCms.createProfile("LAB")
    srgb: Any = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(band, lab, srgb, outputMode="RGB")
    assert converted
    return converted
