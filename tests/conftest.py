"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets named by SIGHTGLASS_DATA; without it the test skips."""
    folder = os.environ.get("SIGHTGLASS_DATA")
    if not folder:
        pytest.skip("needs the data sets: set SIGHTGLASS_DATA to their folder")
    return Path(folder)
