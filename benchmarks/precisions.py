"""Measures lower precision on a CPU: files of one network in `w16`, `int8` and 32 bits.

The 8-bit file is calibrated on labelled photographs. Without the data set nothing is measured.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.bound import CORES, decode_batch, infer, open_session, repeat
from benchmarks.material import (
    CACHE,
    Pictures,
    find_data,
    find_model,
    find_weights,
    import_network,
    read_card,
)
from benchmarks.samples import Sample

TREE = CACHE / "precisions"
PRECISIONS = ("w16", "int8")
BATCH = 8
CASE = "explaining in fewer bits"


def make_precisions() -> dict[str, Path]:
    """The files by precision, made once. There are none without the data set."""
    data = find_data()
    if data is None or not (data / "photos" / "imagenet").is_dir():
        return {}
    files = {precision: find_model(precision, TREE) for precision in PRECISIONS}
    for precision in [precision for precision, file in files.items() if not file.exists()]:
        labels = data / "photos" / "imagenet_classes.tsv"
        options = {
            "--weights": find_weights(),
            "--labels": labels,
            "--pictures": sort_by_label(data / "photos" / "imagenet", labels),
            "--precision": precision,
            "--maps": 0,
        }
        arguments = [str(part) for option in options.items() for part in option]
        import_network("resnet18", TREE, precision, *arguments)
    return files


def sort_by_label(photographs: Path, labels: Path) -> Path:
    """Copy files named `<wnid>_<…>` into one folder per label, as `--pictures` expects."""
    folder = CACHE / "photographs"
    names = [line.split("\t") for line in labels.read_text().splitlines()]
    labels_by_wnid = {wnid: name for _, wnid, name in names}
    for file in photographs.iterdir():
        copy = folder / labels_by_wnid[file.name.partition("_")[0]] / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder


def measure_precisions(pictures: Pictures, seconds: float) -> Iterator[Sample]:
    """Measure images per second with one map each; the losses come from the files' cards."""
    files = make_precisions()
    if not files:
        return
    images = decode_batch(pictures, BATCH)
    for precision, file in ({"fp32": pictures.path} | files).items():
        session = open_session(replace(pictures, path=file), CORES)
        figures = {"rps": repeat(lambda: len(infer(session, images, 1)), 1, seconds)}  # noqa: B023
        if precision in files:
            loss = read_card(session)["checks"]["precision"]
            figures |= {"points": loss["accuracy_points"], "cosine": loss["cam_cosine"]}
        yield Sample(CASE, precision, BATCH, figures)
