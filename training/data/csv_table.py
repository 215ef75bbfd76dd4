"""Labels of pictures in a CSV file, one or several per picture. Knows nothing of pixels."""

import csv
from pathlib import Path

from training.errors import UserError

FILE_COLUMNS = ("file", "image", "image_id", "isic_id")  # accepted names of the file column
OTHER_COLUMNS = ("split",)
TRUE_VALUES, FALSE_VALUES = ("1", "1.0"), ("0", "0.0")


def read_csv_table(path: Path) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Rows of `file`, "0" or "1" per label and perhaps `split`; and the labels in file order.

    If there is a column `label`, it names the one label of each row, and other columns are ignored.
    File names may lack their suffix, and the file column may be called `image`, so the ground
    truth files of the ISIC challenges work unchanged.

    Raises:
        UserError: with the file, and the line where there is one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV file in UTF-8: {error}.") from error
    column = next((name for name in FILE_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise UserError(
            f"{path} must have a header with `file` and a column per label, and at least one row."
        )
    named = "label" in rows[0]
    labels = tuple(name for name in rows[0] if name not in (column, *OTHER_COLUMNS))
    if named:
        labels = tuple(sorted({row["label"] for row in rows}))
    if not labels:
        raise UserError(
            f"{path} has no label column. Add a column `label`, or a column of 0 and 1 per label."
        )
    beside = {picture.stem: picture.name for picture in path.parent.iterdir()}
    found = []
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        if named:
            row |= {label: "1" if label == row["label"] else "0" for label in labels}
        if None in row or any(row[label] not in TRUE_VALUES + FALSE_VALUES for label in labels):
            raise UserError(f"{where}: every label must be 0 or 1.")
        if row.get("split", "train") not in ("train", "val", "test"):
            raise UserError(f"{where}: split must be train, val or test, got {row['split']!r}.")
        name = row[column]
        if not (path.parent / name).is_file():
            name = beside.get(name, name)
        if not (path.parent / name).is_file():
            raise UserError(f"{where}: there is no file {name!r} in {path.parent}.")
        marks = {label: "1" if row[label] in TRUE_VALUES else "0" for label in labels}
        found.append(
            {"file": name, **marks} | {key: row[key] for key in OTHER_COLUMNS if key in row}
        )
    return found, labels
