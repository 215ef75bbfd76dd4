"""The package as the wheel has it, written in a moment, without building and installing."""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from deploy.wheel.build_hook import PACKAGE, write_package
from tests.server import ROOT


@cache
def write_installed_package() -> dict[str, str]:
    """Write it once; return the variables with which Python and a shell find it as if installed."""
    folder = Path(tempfile.mkdtemp(prefix="sightglass-package-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_package(ROOT, folder / "lib" / PACKAGE)
    command = folder / "bin" / PACKAGE
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {PACKAGE} "$@"\n')
    command.chmod(0o755)
    programs = (str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"])
    return {"PYTHONPATH": str(folder / "lib"), "PATH": os.pathsep.join(programs)}
