"""Fewer bits on a CPU: the same network's file in `w16` and `int8` beside the one in 32 bits.

8 bits are calibrated on labelled photographs; without the data set none of it is measured.
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
    """The files by precision, made once; none without the data set."""
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
        words = [str(word) for option in options.items() for word in option]
        import_network("resnet18", TREE, precision, *words)
    return files


def sort_by_label(photographs: Path, labels: Path) -> Path:
    """A folder for each label, as `--pictures` takes them, of files named `<wnid>_<…>`."""
    folder = CACHE / "photographs"
    names = [line.split("\t") for line in labels.read_text().splitlines()]
    of = {wnid: name for _, wnid, name in names}
    for file in photographs.iterdir():
        copy = folder / of[file.name.partition("_")[0]] / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder


def measure_precisions(pictures: Pictures, seconds: float) -> Iterator[Sample]:
    """Images a second with one map each, and what the bits cost by the files' own cards."""
    made = make_precisions()
    if not made:
        return
    images = decode_batch(pictures, BATCH)
    for precision, file in ({"fp32": pictures.path} | made).items():
        session = open_session(replace(pictures, path=file), CORES)
        figures = {"rps": repeat(lambda: len(infer(session, images, 1)), 1, seconds)}  # noqa: B023
        if precision in made:
            lost = read_card(session)["checks"]["precision"]
            figures |= {"points": lost["accuracy_points"], "cosine": lost["cam_cosine"]}
        yield Sample(CASE, precision, BATCH, figures)
