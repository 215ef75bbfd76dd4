"""Labels of pictures in a CSV: one to a picture, or several. Knows nothing of pixels."""

import csv
from pathlib import Path

from training.errors import UserError

FILE_COLUMNS = ("file", "image", "image_id", "isic_id")  # the column of the pictures' names
OTHER_COLUMNS = ("split",)
TRUE_VALUES, FALSE_VALUES = ("1", "1.0"), ("0", "0.0")


def read_csv_table(path: Path) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Rows of `file`, a 0 or 1 by label, perhaps `split`; and the labels in the file's order.

    A column `label` with a name in each row stands for a 1 in that label's column, and further
    columns beside it are passed over. A picture may be named without its ending, and its column
    `image`: so the ground truth of ISIC's challenges is taken as it is.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise UserError(f"{path} can't be read as a CSV in UTF-8: {fault}.") from fault
    column = next((name for name in FILE_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise UserError(f"{path} needs a header with `file` and a column for each label, and rows.")
    named = "label" in rows[0]
    labels = tuple(name for name in rows[0] if name not in (column, *OTHER_COLUMNS))
    if named:
        labels = tuple(sorted({row["label"] for row in rows}))
    if not labels:
        raise UserError(f"{path} has no column for a label.")
    beside = {picture.stem: picture.name for picture in path.parent.iterdir()}
    found = []
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        if named:
            row |= {label: "1" if label == row["label"] else "0" for label in labels}
        if None in row or any(row[label] not in TRUE_VALUES + FALSE_VALUES for label in labels):
            raise UserError(f"{where}: every label is 0 or 1.")
        if row.get("split", "train") not in ("train", "val", "test"):
            raise UserError(f"{where}: split is train, val or test.")
        name = row[column]
        if not (path.parent / name).is_file():
            name = beside.get(name, name)
        if not (path.parent / name).is_file():
            raise UserError(f"{where}: there is no file {name}.")
        marks = {label: "1" if row[label] in TRUE_VALUES else "0" for label in labels}
        found.append(
            {"file": name, **marks} | {key: row[key] for key in OTHER_COLUMNS if key in row}
        )
    return found, labels
