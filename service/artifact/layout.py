"""The layout of a model repository, `<name>/<version>/model.onnx`. Opens no file."""

import re
from pathlib import Path

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
VERSION = re.compile(r"[1-9][0-9]*")
FILE_NAME = "model.onnx"

Key = tuple[str, int]  # name, version
Stamp = tuple[int, int, int]  # of a file: inode, size, mtime


def find_model_files(models_dir: Path) -> dict[Key, Stamp]:
    """Return the model files with their stamps; files that do not match the layout are ignored."""
    found: dict[Key, Stamp] = {}
    for path in sorted(models_dir.glob(f"*/*/{FILE_NAME}")):
        version, name = path.parent.name, path.parent.parent.name
        if NAME.fullmatch(name) and VERSION.fullmatch(version):
            try:
                status = path.stat()
            except OSError:  # removed in the meantime
                continue
            found[name, int(version)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def make_model_path(models_dir: Path, key: Key) -> Path:
    """Return where the file of a version is."""
    return models_dir / key[0] / str(key[1]) / FILE_NAME
