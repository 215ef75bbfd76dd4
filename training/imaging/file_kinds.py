"""Opens picture files, and says which whole files are of a kind that cannot be decoded.

Pillow reads some TIFF files wrongly, and others not at all. This module corrects that before a
pixel is decoded. AVIF and HEIC have no signature at their start, so it reads their brands. It knows
nothing of models or requests. The service and the training have the same copy of it, because
neither imports the other.
"""

import io
import struct

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError, features

try:
    from training.imaging import heic
except ImportError:  # the extra `heif` is not installed
    heic = None  # type: ignore[assignment]

TIFF_SIGNATURES = tuple(TiffImagePlugin.PREFIXES)
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR = 258, 259, 262, 277, 284  # TIFF tags
SAMPLE_FORMAT, YCBCR_SUBSAMPLING, DNG_VERSION = 339, 530, 50706
YCBCR = 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
GRAYS = {  # format and bits of a number: mode; how it is stored from low to high, high to low; here
    (SIGNED, 8): ("I", "I;8S", "I;8S", "I;8S"),
    (UNSIGNED, 12): ("I;16", "I;12", "I;12", "I;12"),
    (SIGNED, 16): ("I", "I;16S", "I;16BS", "I;16NS"),
    (UNSIGNED, 32): ("I", "I;32", "I;32B", "I;32N"),
    (SIGNED, 32): ("I", "I;32S", "I;32BS", "I;32NS"),
    (FLOAT, 32): ("F", "F;32F", "F;32BF", "F;32NF"),
    (FLOAT, 64): ("F", "F;64F", "F;64BF", "F;64NF"),
}
NATIVE = {stored: native for _, low, high, native in GRAYS.values() for stored in (low, high)}
COLORS = {2: " in RGB", 3: " with a palette", 5: " in CMYK", 6: " in YCbCr", 8: " in Lab"}
ACCEPTED_TIFF = (
    "Convert it to gray (8 to 32 bits, or floating point), a palette, RGB or CMYK (8 or 16 bits)."
)
ACCEPTED_JPEG = "Convert it to a JPEG in gray, RGB or CMYK with 8 bits, or to a PNG or TIFF."
AVIF, HEIC = "AVIF", "HEIF"  # as Pillow and its plugin call them
BRANDS = {  # of files of the ISO base media format: the format
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), HEIC),
}
MAX_BRAND_BYTES = 256
ACCEPTED_BRANDS = "Convert it to a JPEG, PNG or WebP."
MAX_BANDS = 1000  # of a TIFF that may be whole
MAX_MARKERS = 1000  # of a JPEG that are searched for its kind
FRAME_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))

for _order, _column in ((TiffImagePlugin.II, 1), (TiffImagePlugin.MM, 2)):
    for _photometric in (0, 1):
        _key = (_order, _photometric)
        TiffImagePlugin.OPEN_INFO |= {
            (*_key, (_format,), 1, (_bits,), ()): (_gray[0], _gray[_column])
            for (_format, _bits), _gray in GRAYS.items()
        }
TiffImagePlugin.OPEN_INFO[TiffImagePlugin.MM, 0, (1,), 1, (16,), ()] = ("I;16B", "I;16B")


class UnsupportedKind(Exception):
    """A whole file that cannot be decoded: "a … . Convert it to …"."""


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF whose numbers are read as they are stored."""

    def _setup(self) -> None:
        tags = self.tag_v2
        if DNG_VERSION in tags:
            raise UnsupportedKind("a camera's raw file (DNG). Convert it to a JPEG, PNG or TIFF.")
        samples = tags.get(SAMPLES, 1)
        if samples == 1:
            tags.pop(PLANAR, None)  # Pillow would cut off the rest of the raw mode
        if samples in range(TiffImagePlugin.MAX_SAMPLESPERPIXEL + 1, MAX_BANDS):
            raise UnsupportedKind(_describe_tiff(tags))  # Pillow would write to the log
        try:
            super()._setup()
        except (SyntaxError, KeyError):
            if self.mode or not _describe_tiff(tags):
                raise
            raise UnsupportedKind(_describe_tiff(tags)) from None
        self._correct_raw_mode()

    def _correct_raw_mode(self) -> None:
        """Change how the decoder takes the stored bytes where Pillow is wrong."""
        tags = self.tag_v2
        tile = self.tile[0] if self.tile else None
        if tile and tile.codec_name == "libtiff":  # gives numbers in the order of this machine
            assert isinstance(tile.args, tuple)
            native = NATIVE.get(tile.args[0], tile.args[0])
            self.tile = [tile._replace(args=(native, *tile.args[1:]))]
        elif tags.get(PLANAR) == 2 and 16 in tags.get(BITS, ()):
            self._read_with_libtiff(f"{self.mode};16N")  # Pillow would read bytes
        elif tags.get(PHOTOMETRIC) == YCBCR and tags.get(YCBCR_SUBSAMPLING, (2, 2)) != (1, 1):
            self._mode = "RGB"
            self._read_with_libtiff("RGBX")  # Pillow would take blocks for pixels

    def _read_with_libtiff(self, rawmode: str) -> None:
        self.use_load_libtiff = True
        args = (rawmode, False, self.tag_v2.offset)
        self.tile = [ImageFile._Tile("libtiff", (0, 0, *self._tile_size), 0, args)]


def open_file(content: bytes, formats: tuple[str, ...] | None = None) -> ImageFile.ImageFile:
    """Read the header of a picture.

    Raises:
        UnsupportedKind: the file is whole, but of a kind that cannot be decoded.
        UnidentifiedImageError: it is no picture, or its header is broken.
        Exception: any other, of the decoders.
    """
    if content.startswith(TIFF_SIGNATURES):
        try:
            return TiffFile(io.BytesIO(content))
        except (SyntaxError, IndexError, TypeError, struct.error) as exc:  # as in `Image.open`
            raise UnidentifiedImageError(str(exc)) from exc
    brand = find_branded_format(content)
    if heic and brand == HEIC:
        return heic.open_heic(content)
    try:
        return Image.open(io.BytesIO(content), formats=formats)
    except UnidentifiedImageError:
        kind = _describe_jpeg(content) or _describe_branded(brand)
        if kind:
            raise UnsupportedKind(kind) from None
        raise


def find_branded_format(content: bytes) -> str:
    """ "AVIF" or "HEIF", by what the first box of the file says; empty for all others."""
    if content[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(content[:4]), MAX_BRAND_BYTES)
    brands = [content[start : start + 4] for start in (8, *range(16, end, 4))]
    return next((BRANDS[brand] for brand in brands if brand in BRANDS), "")


def _describe_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    """What kind of TIFF this is; empty if the tags contradict each other."""
    compression, samples = tags.get(COMPRESSION, 1), tags.get(SAMPLES, 1)
    bits, formats = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    if isinstance(compression, int) and compression not in TiffImagePlugin.COMPRESSION_INFO:
        found = f"with compression {compression}"
    elif samples in range(1, MAX_BANDS) and isinstance(bits, tuple) and len(bits) in (1, samples):
        sizes = " and ".join(str(size) for size in sorted(set(bits))[:3])
        numbers = f"{sizes} bits" + (" (floating point)" if FLOAT in formats else "")
        color = COLORS.get(tags.get(PHOTOMETRIC, 0), "")
        plural = "" if samples == 1 else "s"
        found = f"with {samples} sample{plural} of {numbers} per pixel{color}"
    else:
        return ""
    return f"a TIFF {found}, which cannot be decoded. {ACCEPTED_TIFF}"


def _describe_jpeg(content: bytes) -> str:
    """What kind of JPEG Pillow does not read; empty if it is none, or a broken one."""
    position = 2
    for _ in range(MAX_MARKERS if content.startswith(b"\xff\xd8\xff") else 0):
        head = content[position : position + 10]
        if len(head) < 10 or head[0] != 0xFF:
            break
        if head[1] in FRAME_MARKERS and (head[4] in (12, 16) or head[9] == 2):
            found = f"with {head[9]} components of {head[4]} bits"
            return f"a JPEG {found}, which cannot be decoded. {ACCEPTED_JPEG}"
        position += 2 + int.from_bytes(head[2:4])
    return ""


def _describe_branded(name: str) -> str:
    """What is missing to decode an AVIF or HEIC; empty if it is none, or a broken one."""
    if name == HEIC:
        return f"a HEIC, which needs the extra heif (sightglass[heif]). {ACCEPTED_BRANDS}"
    if name == AVIF and not features.check("avif"):
        return f"an AVIF, which the Pillow that is installed cannot decode. {ACCEPTED_BRANDS}"
    return ""
