"""Fewer bits on a CPU: the same network's file in `w16` and `int8` beside the one in 32 bits.

8 bits are calibrated on labelled photographs; without the data set none of it is measured.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.bound import CORES, infer, make_decoder, open_session, repeat
from benchmarks.material import CACHE, ROOT, Pictures, find_data, find_weights
from benchmarks.samples import Sample

TREE = CACHE / "precisions"
PRECISIONS = ("w16", "int8")
BATCH = 8
CASE = "explaining in fewer bits"


def make_precisions() -> dict[str, Path]:
    """The files by precision, made once; none without the data set."""
    data = find_data()
    photographs = data and data / "photos" / "imagenet"
    if not (data and photographs and photographs.is_dir()):
        return {}
    labels = data / "photos" / "imagenet_classes.tsv"
    files = {precision: TREE / precision / "1" / "model.onnx" for precision in PRECISIONS}
    for precision, file in files.items():
        if not file.exists():
            command = [sys.executable, "-m", "training", "import", "resnet18", "--maps", "0"]
            command += ["--weights", str(find_weights()), "--labels", str(labels)]
            command += ["--pictures", str(sort_by_label(photographs, labels))]
            command += ["--precision", precision, "--to", str(TREE), "--name", precision]
            subprocess.run([*command, "--version", "1"], cwd=ROOT, check=True)  # noqa: S603
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
    decode = make_decoder(pictures, boxed=True)
    images = np.stack([decode(pictures.files[i % len(pictures.files)]) for i in range(BATCH)])
    made = make_precisions()
    for precision, file in ({"fp32": pictures.path} | made).items() if made else ():
        session = open_session(replace(pictures, path=file), CORES)
        figures = {"rps": repeat(lambda: len(infer(session, images, 1)), 1, seconds)}  # noqa: B023
        if precision != "fp32":
            lost = read_lost(session)
            figures |= {"points": lost["accuracy_points"], "cosine": lost["cam_cosine"]}
        yield Sample(CASE, precision, BATCH, figures)


def read_lost(session: ort.InferenceSession) -> dict[str, float]:
    """What the card says that the bits cost."""
    card = json.loads(session.get_modelmeta().custom_metadata_map["sightglass"])
    lost: dict[str, float] = card["checks"]["precision"]
    return lost
