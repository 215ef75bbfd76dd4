"""The undocumented attributes of Pillow that `service.imaging` reads still mean the same."""

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from service.imaging.decoding import FORMATS, open_image
from tests.service.quadrants_model import encode
from tests.tiff import write_tiff


def open_jpeg(subsampling: int) -> JpegImageFile:
    content = encode(Image.new("RGB", (64, 48)), "JPEG", subsampling=subsampling)
    image = Image.open(io.BytesIO(content))
    assert isinstance(image, JpegImageFile)
    return image


@pytest.mark.parametrize(("subsampling", "factor"), [(0, 1), (2, 2)], ids=["4:4:4", "4:2:0"])
def test_a_jpeg_lists_its_components_with_their_sampling_factors(
    subsampling: int, factor: int
) -> None:
    image = open_jpeg(subsampling)
    factors = [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer]
    assert (image.layers, factors) == (3, [(factor, factor), (1, 1), (1, 1)]), (
        "Pillow's JpegImageFile.layers or .layer changed, from which service/imaging/memory.py "
        "counts the samples of a JPEG"
    )


def test_a_jpeg_is_open_right_after_the_start_of_its_first_scan() -> None:
    image = open_jpeg(0)
    assert isinstance(image.fp, io.BytesIO)
    position = image.fp.tell()
    start_of_scan = image.fp.getvalue()[position - 14 : position]
    assert start_of_scan[:5] == b"\xff\xda\x00\x0c\x03", (
        "Pillow no longer leaves a JPEG's file after its start of scan, where "
        "service/imaging/memory.py reads the number of components"
    )


def test_every_accepted_format_has_a_reader_that_gives_the_size() -> None:
    for name in FORMATS:
        read_header, _ = Image.OPEN[name]
        image = read_header(io.BytesIO(encode(Image.new("L", (5, 7)), name)), "")
        assert image.size == (5, 7), (
            "Pillow's Image.OPEN changed, from which service/imaging/decoding.py reads the size "
            f"of a {name} that has too many pixels"
        )


def test_a_tiff_has_the_hooks_that_its_subclass_overrides() -> None:
    content = write_tiff(np.zeros((4, 5), np.uint16), byte_order=">")
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(content))
    assert callable(TiffImagePlugin.TiffImageFile._setup)
    assert (image._tile_size, image.use_load_libtiff) == ((5, 4), False)
    assert image.tile[0]._fields == ("codec_name", "extents", "offset", "args")
    assert image.tile[0].args == ("I;16B", 0, 1), (
        "Pillow's TiffImageFile changed, which service/imaging/file_kinds.py corrects"
    )
    known = (TiffImagePlugin.II, 1, (1,), 1, (16,), ())
    assert TiffImagePlugin.OPEN_INFO[known] == ("I;16", "I;16"), (
        "Pillow's table of TIFF kinds changed, to which service/imaging/file_kinds.py adds some"
    )


def test_a_png_tells_how_its_numbers_are_stored() -> None:
    assert open_image(encode(Image.new("RGB", (4, 4)), "PNG"), 100).tile[0].args == "RGB", (  # type: ignore[attr-defined]
        "Pillow's PNG tiles changed, from which service/imaging/deep_color.py reads the depth"
    )
