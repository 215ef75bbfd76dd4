"""The hook of the wheel moves our imports and commands into the package, and nothing else."""

import pytest

from deploy.wheel.build_hook import move_into_package

BEFORE = '''"""Serve with python -m service serve.

Then python -m training fit é."""
from service.errors import ApiError; from service import app
from services import other
from . import beside
import servicetools as tools

if app:
    from training.config import (
        Config,
    )
name = f"python -m training {app} service.name"; é = "é python -m service check"
text = "from service.errors import ApiError"  # python -m service is a comment
'''
AFTER = '''"""Serve with sightglass serve.

Then sightglass fit é."""
from sightglass.service.errors import ApiError; from sightglass.service import app
from services import other
from . import beside
import servicetools as tools

if app:
    from sightglass.training.config import (
        Config,
    )
name = f"sightglass {app} service.name"; é = "é sightglass check"
text = "from service.errors import ApiError"  # python -m service is a comment
'''


def test_imports_and_commands_move_and_the_rest_stays() -> None:
    assert move_into_package(BEFORE, "module.py") == AFTER


@pytest.mark.parametrize("line", ["import service.errors", "import os, hub"])
def test_an_import_whose_name_would_change_is_an_error(line: str) -> None:
    with pytest.raises(SyntaxError, match=r"module\.py, line 2: write `from"):
        move_into_package(f"\n{line}\n", "module.py")
