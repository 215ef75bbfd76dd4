"""The labels of a network that was trained elsewhere, and pictures that are labelled with them."""

from pathlib import Path

from training.data.datasets import Split
from training.data.image_folder import list_labelled_pictures
from training.data.picture_table import load_split
from training.data.text_file import read_text
from training.errors import UserError
from training.imaging.preprocessing import Input


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels: one per line, or tab-separated lines of index, id and label.

    Raises:
        UserError: the file is not readable, or a label appears twice.
    """
    lines = read_text(path, "file of labels").split("\n")
    rows = [line.split("\t") for line in lines if line.strip()]
    if rows and rows[0][0].strip().lower() == "index":
        rows = rows[1:]
    if rows and all(len(row) > 1 and row[0].isdigit() for row in rows):
        rows.sort(key=lambda row: int(row[0]))
    labels = tuple(row[-1].strip() for row in rows)
    duplicate = next((label for label in labels if labels.count(label) > 1), None)
    if duplicate is not None:
        raise UserError(
            f"{path} has the label {duplicate!r} more than once. All labels must differ."
        )
    return labels


def load_labelled_split(folder: Path, labels: tuple[str, ...], input_spec: Input) -> Split:
    """Load a folder with a subfolder of pictures per label."""
    rows = list_labelled_pictures(folder, 1)
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise UserError(
            f"{folder} has subfolders that are not labels of the model: {', '.join(unknown[:5])}."
        )
    return load_split(folder, rows, labels, input_spec)
