"""Pictures with masks: <split>/images/* and <split>/masks/*, or images/* and masks/* to be split.

A mask has the name of its picture and its size. The value of a pixel is the index of its class, and
255 is ignored. Knows nothing of networks or batches.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from training.config import Config, resolve_path
from training.data.datasets import Dataset, Split
from training.data.image_folder import decode_pictures, describe_files, store_rows
from training.data.picture_files import list_pictures, list_subfolders
from training.data.splits import ACCEPTED_NAMES, SPLIT_NAMES, SPLITS, fill_splits
from training.errors import UserError
from training.imaging.augmentation import IGNORED
from training.imaging.color_modes import ORIENTATIONS, read_orientation
from training.imaging.preprocessing import Input, Pixels, resize_and_crop

IMAGES, MASKS = "images", "masks"
INDEX_MODES = ("L", "P", "1")  # one number a pixel, which is the class
LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")
SIDEWAYS = 5  # from this EXIF orientation on width and height are exchanged


@dataclass(frozen=True)
class MaskedPicture:
    """The files of a picture and of its mask."""

    picture: Path
    mask: Path


@dataclass(frozen=True)
class MaskSplit(Split):
    """Pictures and masks in the network's size, and the files of both."""

    files: tuple[MaskedPicture, ...]

    def select(self, rows: np.ndarray) -> "MaskSplit":
        chosen = np.arange(len(self))[rows]
        files = tuple(self.files[i] for i in chosen)
        return MaskSplit(self.pictures[rows], self.labels[rows], files)


def load_mask_folder(config: Config) -> Dataset:
    """The data set of pictures with masks that a config names.

    Raises:
        UserError: the layout is not clear, or a mask does not fit its picture or the labels.
    """
    listed = list_masked_splits(resolve_path(config.data))
    rows = [(pair, split) for split, pairs in listed.items() for pair in pairs]
    given = np.array(["" if split == "all" else split for _, split in rows])
    alike = np.zeros(len(rows), np.int64)
    splits = fill_splits(given, alike, config.validation, config.test, config.seed)
    found = {
        name: load_mask_split(
            [rows[i][0] for i in np.flatnonzero(splits == name)], config.input, len(config.labels)
        )
        for name in SPLITS
        if (splits == name).any()
    }
    check_classes(config, found)
    return Dataset(dict(found), config.labels)


def check_classes(config: Config, splits: dict[str, MaskSplit]) -> None:
    """Raise UserError if no training pixel has some class."""
    shares = splits["train"].class_shares(len(config.labels))
    if not shares.all():
        value = int(np.flatnonzero(shares == 0)[0])
        raise UserError(
            f"No mask of {config.data} in the split 'train' has the value {value} of the label "
            f"{config.labels[value]!r}. Add one, or change `labels`."
        )


def list_masked_splits(folder: Path) -> dict[str, list[MaskedPicture]]:
    """The pictures of each split with their masks; without splits, as one split "all"."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}, neither here nor in the data folder.")
    inside = {path.name: path for path in list_subfolders(folder)}
    if IMAGES in inside:
        return {"all": list_masked_pictures(folder)}
    splits: dict[str, list[MaskedPicture]] = {}
    for name, path in inside.items():
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            raise UserError(
                f"{folder} must have the folders {IMAGES} and {MASKS}, or a folder for each split, "
                f"but {name} is neither. {ACCEPTED_NAMES}"
            )
        if split in splits:
            raise UserError(f"{folder} has two folders for the split {split}. Keep one of them.")
        splits[split] = list_masked_pictures(path)
    if "train" not in splits:
        raise UserError(f"{folder} has no folder train, and no folders {IMAGES} and {MASKS}.")
    return splits


def list_masked_pictures(folder: Path) -> list[MaskedPicture]:
    """The pictures in `images`, each with the mask of the same name in `masks`."""
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise UserError(f"{folder} has no folder {name}. It must have {IMAGES} and {MASKS}.")
    pictures, masks = (index_by_stem(folder / name) for name in (IMAGES, MASKS))
    if not pictures:
        raise UserError(f"{folder / IMAGES} has no pictures. Add some, or remove the folder.")
    for missing in sorted(pictures.keys() - masks.keys()):
        raise UserError(
            f"{pictures[missing]} has no mask. Add {folder / MASKS / missing}.png, or remove the "
            "picture."
        )
    for missing in sorted(masks.keys() - pictures.keys()):
        raise UserError(
            f"{masks[missing]} is the mask of no picture. Add {folder / IMAGES / missing}.png, or "
            "remove the mask."
        )
    return [MaskedPicture(path, masks[stem]) for stem, path in sorted(pictures.items())]


def index_by_stem(folder: Path) -> dict[str, Path]:
    """The picture files of a folder by their path in it without the ending."""
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(
                f"{found[stem]} and {path} differ in their ending only. Rename one of them."
            )
        found[stem] = path
    return found


def load_mask_split(pairs: Sequence[MaskedPicture], input_spec: Input, classes: int) -> MaskSplit:
    """Decode pictures and masks to the network's size."""
    masks = describe_files(pair.mask for pair in pairs)
    pictures = describe_files(pair.picture for pair in pairs)
    rules = ("masks", pictures, masks, asdict(input_spec), classes)
    shape = (len(pairs), input_spec.height, input_spec.width)
    labels = store_rows(
        pairs, lambda pair: resize_mask(read_mask(pair, classes), input_spec), shape, rules
    )
    files = [pair.picture for pair in pairs]
    return MaskSplit(decode_pictures(files, input_spec), labels, tuple(pairs))


def resize_mask(mask: Pixels, input_spec: Input) -> Pixels:
    """A mask (h, w) resized and cropped like its picture: (H, W). What it lacks is ignored."""
    geometry = replace(input_spec, mode="L", interpolation="nearest", mean=(0.0,), std=(1.0,))
    # A crop pads with 0, so ignored pixels are 0 here.
    return IGNORED - resize_and_crop(Image.fromarray(IGNORED - mask), geometry)[..., 0]


def read_mask(pair: MaskedPicture, classes: int) -> Pixels:
    """The classes (h, w) uint8 of a mask at its own size.

    Raises:
        UserError: it is not a picture of class indices, or does not fit its picture.
    """
    path = pair.mask
    try:
        with Image.open(path) as image:
            kind, mode, size = image.format, image.mode, image.size
            mask = np.array(image.convert("L") if mode == "1" else image)
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(
            f"The mask {path} cannot be read: {error}. Save it again as PNG."
        ) from error
    if kind in LOSSY_FORMATS:
        raise UserError(
            f"The mask {path} is a {kind} file, which does not keep exact values. Save masks as "
            "PNG from the program that drew them."
        )
    if mode not in INDEX_MODES:
        raise UserError(
            f"The mask {path} has mode {mode}. A mask must have one number of 8 bits per pixel, "
            "the index of its class: mode L or P."
        )
    wanted = read_upright_size(pair.picture)
    if size != wanted:
        raise UserError(
            f"The mask {path} is {size[0]} x {size[1]}, its picture {wanted[0]} x {wanted[1]}. "
            "Both must have the same size."
        )
    mask = mask // 255 if mode == "1" else mask
    wrong = mask[(mask >= classes) & (mask != IGNORED)]
    if wrong.size:
        raise UserError(
            f"The mask {path} has the value {wrong.max()}, but there are {classes} labels. Values "
            f"must be 0 to {classes - 1}, or {IGNORED} for pixels to ignore."
        )
    return mask


def read_upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as a viewer shows it."""
    try:
        with Image.open(path) as image:
            (width, height), turn = image.size, read_orientation(image)
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(f"{path} is not a picture that can be decoded: {error}.") from error
    return (height, width) if turn in ORIENTATIONS and turn >= SIDEWAYS else (width, height)
