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
    rows, column = read_rows(path)
    labels = find_labels(path, rows, column)
    files = {picture.stem: picture.name for picture in path.parent.iterdir()}
    found = []
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        name = row[column]
        if not (path.parent / name).is_file():
            name = files.get(name, name)
        if not (path.parent / name).is_file():
            raise UserError(f"{where}: there is no file {name!r} in {path.parent}.")
        others = {key: row[key] for key in OTHER_COLUMNS if key in row}
        found.append({"file": name, **read_marks(row, labels, where), **others})
    return found, labels


def read_rows(path: Path) -> tuple[list[dict[str, str]], str]:
    """The rows of the CSV file, at least one, and the name of the file column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV file in UTF-8: {error}.") from error
    for column in FILE_COLUMNS:
        if rows and column in rows[0]:
            return rows, column
    raise UserError(
        f"{path} must have a header with `file` and a column per label, and at least one row."
    )


def find_labels(path: Path, rows: list[dict[str, str]], column: str) -> tuple[str, ...]:
    """The values of the column `label`, sorted, or else the names of the other columns."""
    if "label" in rows[0]:
        return tuple(sorted({row["label"] for row in rows}))
    labels = tuple(name for name in rows[0] if name not in (column, *OTHER_COLUMNS))
    if not labels:
        raise UserError(
            f"{path} has no label column. Add a column `label`, or a column of 0 and 1 per label."
        )
    return labels


def read_marks(row: dict[str, str], labels: tuple[str, ...], where: str) -> dict[str, str]:
    """ "0" or "1" per label of a row, after a check of its values and its split."""
    if "label" in row:
        row = row | {label: "1" if label == row["label"] else "0" for label in labels}
    if None in row or any(row[label] not in TRUE_VALUES + FALSE_VALUES for label in labels):
        raise UserError(f"{where}: every label must be 0 or 1.")
    if row.get("split", "train") not in ("train", "val", "test"):
        raise UserError(f"{where}: split must be train, val or test, got {row['split']!r}.")
    return {label: "1" if row[label] in TRUE_VALUES else "0" for label in labels}
