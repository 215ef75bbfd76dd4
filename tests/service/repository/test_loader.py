"""A loaded model takes the memory of its weights, once for all cores and once for each alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.server import ROOT

LENET, RESNET = (ROOT / "models" / name / "1" / "model.onnx" for name in ("lenet5", "resnet18"))
SPARE_BYTES = 24 << 20  # what the first pictures take
MEASURE = """
import sys
from pathlib import Path
import psutil
from service.repository.loader import load_model_file
from service.settings import read_settings
from service.repository.sandbox import Sandbox


def load(name):
    loaded = load_model_file(Path(name), read_settings(), Sandbox(lambda path, sha256: None))
    return psutil.Process().memory_info().rss, loaded


before, small = load(sys.argv[1])
after, large = load(sys.argv[2])
print(after - before)
"""


def count_weight_bytes(path: Path) -> int:
    """In the 32 bits that they are computed with."""
    return 4 * sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is the one that keeps")
def test_neither_the_file_nor_what_parsing_took_is_kept() -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(LENET), str(RESNET)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(measured.stdout) < 2 * count_weight_bytes(RESNET) + SPARE_BYTES
