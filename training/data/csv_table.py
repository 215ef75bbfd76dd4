"""Labels of pictures in a CSV file, one or several per picture. Knows nothing of pixels."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from training.data.picture_files import list_entries, list_readable_suffixes
from training.data.splits import SPLIT_NAMES
from training.data.text_file import read_text
from training.errors import UserError

FILE_COLUMNS = ("file", "image", "image_id", "isic_id")  # accepted names of the file column
KNOWN_COLUMNS = (*FILE_COLUMNS, "label", "split")
DELIMITERS = ",;\t"  # Excel writes the last two, too
TRUE_VALUES, FALSE_VALUES = ("1", "1.0"), ("0", "0.0")


@dataclass(frozen=True)
class Table:
    """The header of a CSV file, and its rows with the number of their last line."""

    path: Path
    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    file_column: str


@dataclass(frozen=True)
class LabelledPicture:
    """One row: the picture, a mark per label, and the split and group, or "" if there is none."""

    file: Path
    marks: tuple[bool, ...]
    split: str
    group: str
    line: int


def read_csv_table(path: Path, group: str = "") -> tuple[list[LabelledPicture], tuple[str, ...]]:
    """The pictures and their labels, both in the order of the file.

    `group` may name a column that says which pictures belong together.

    If there is a column `label`, it names the one label of each row, and other columns are ignored.
    File names may lack their suffix, and the file column may be called `image`, so the ground
    truth files of the ISIC challenges work unchanged.

    Raises:
        UserError: with the file, and the line where there is one.
    """
    table = read_table(path)
    labels = find_labels(table, group)
    suffixes = list_readable_suffixes()
    pictures = [p for p in list_entries(path.parent) if p.suffix.lower() in suffixes]
    stems = {picture.stem: picture for picture in pictures}
    found: list[LabelledPicture] = []
    lines: dict[Path, int] = {}
    for line, row in table.rows:
        where = f"{path}, line {line}"
        file = find_picture(path.parent, row[table.file_column], stems, where)
        if file in lines:
            raise UserError(
                f"{where}: {file.name} is in line {lines[file]} already. Give each picture one row."
            )
        lines[file] = line
        marks = read_marks(row, labels, where)
        found.append(LabelledPicture(file, marks, read_split(row, where), row.get(group, ""), line))
    return found, labels


def read_table(path: Path) -> Table:
    """The cells of the CSV file, without blanks around them and without empty rows."""
    lines = read_text(path, "CSV file")
    header = lines.lstrip("\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        read = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file: {error}.") from error
    filled = [(line, cells) for line, cells in read if any(cells)]
    columns = [fold_name(name) for name in filled[0][1]] if filled else []
    while columns and not columns[-1]:  # Excel ends each line with a delimiter for empty columns
        columns.pop()
    file_column = next((name for name in FILE_COLUMNS if name in columns), None)
    if file_column is None or len(filled) < 2:
        raise UserError(
            f"{path} must have a header with `file` and a column per label, and at least one row."
        )
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has two columns {twice!r}. Remove one of them.")
    rows = []
    for line, cells in filled[1:]:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise UserError(
                f"{path}, line {line}: the header has {len(columns)} columns, this row "
                f"{len(cells)}. Give it as many."
            )
        rows.append((line, dict(zip(columns, cells, strict=False))))
    return Table(path, columns, rows, file_column)


def fold_name(name: str) -> str:
    """The name of a column; those that have a meaning, in lower case."""
    return name.lower() if name.lower() in KNOWN_COLUMNS else name


def find_labels(table: Table, group: str) -> tuple[str, ...]:
    """The values of the column `label`, sorted, or else the names of the other columns."""
    if "label" in table.columns:
        empty = next((line for line, row in table.rows if not row["label"]), None)
        if empty is not None:
            raise UserError(f"{table.path}, line {empty}: the label is empty. Give it one.")
        labels = tuple(sorted({row["label"] for _, row in table.rows}))
    else:
        labels = tuple(n for n in table.columns if n not in (table.file_column, "split", group))
    if not labels:
        raise UserError(
            f"{table.path} has no label column. "
            "Add a column `label`, or a column of 0 and 1 per label."
        )
    return labels


def find_picture(folder: Path, name: str, stems: dict[str, Path], where: str) -> Path:
    """The file that a cell names, perhaps without its suffix or with Windows' separators."""
    for candidate in (folder / name, stems.get(name), folder / name.replace("\\", "/")):
        if candidate is not None and candidate.is_file():
            return candidate
    raise UserError(f"{where}: there is no file {name!r} in {folder}.")


def read_marks(row: dict[str, str], labels: tuple[str, ...], where: str) -> tuple[bool, ...]:
    """Which labels a row has."""
    if "label" in row:
        return tuple(label == row["label"] for label in labels)
    for label in labels:
        if row[label] not in TRUE_VALUES + FALSE_VALUES:
            raise UserError(f"{where}: every label must be 0 or 1, {label!r} is {row[label]!r}.")
    return tuple(row[label] in TRUE_VALUES for label in labels)


def read_split(row: dict[str, str], where: str) -> str:
    """The split of a row, or "" if there is no such column."""
    if "split" not in row:
        return ""
    split = SPLIT_NAMES.get(row["split"].lower())
    if split is None:
        raise UserError(f"{where}: split must be train, val or test, got {row['split']!r}.")
    return split
