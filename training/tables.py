"""Labels of pictures in a CSV, several to a picture. Knows nothing of pixels."""

import csv
from pathlib import Path

from training.errors import UserError


def read(path: Path) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Rows of `file`, a 0 or 1 by label, perhaps `split`; and the labels in the file's order."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise UserError(f"{path} can't be read as a CSV in UTF-8: {fault}.") from fault
    if not rows or "file" not in rows[0]:
        raise UserError(f"{path} needs a header with `file` and a column for each label, and rows.")
    labels = tuple(name for name in rows[0] if name not in ("file", "split"))
    if not labels:
        raise UserError(f"{path} has no column for a label.")
    for number, row in enumerate(rows, 2):
        if None in row or any(row[label] not in ("0", "1") for label in labels):
            raise UserError(f"{path}, line {number}: every label is 0 or 1.")
        if row.get("split", "train") not in ("train", "val", "test"):
            raise UserError(f"{path}, line {number}: split is train, val or test.")
        if not (path.parent / row["file"]).is_file():
            raise UserError(f"{path}, line {number}: there is no file {row['file']}.")
    return rows, labels
