"""The reference pages are the code's: settings, parameters, error codes, limits."""

import re
from inspect import signature
from typing import get_type_hints

import pytest

from service.api.v2.number_lists import MAX_VALUES
from service.settings import Settings
from tests.docs.command_line import find_commands
from tests.docs.tables import TABLES, find_table
from tests.server import ROOT
from training.config import Config

REFERENCE = ROOT / "docs" / "reference"
PLACES = {"settings": "settings.md", "parameters": "http-gradcam.md"}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_from_the_code_is_up_to_date(name: str) -> None:
    """`python -m tests.docs.walkthrough <page>` puts it in anew."""
    assert find_table(name, (REFERENCE / PLACES[name]).read_text()) == TABLES[name]().strip()


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_every_error_code_is_documented() -> None:
    page = (REFERENCE / "http-errors.md").read_text()
    source = (ROOT / "service" / "errors.py").read_text()
    defined = set(re.findall(r'status, code = \d+, "(\w+)"', source))
    assert defined
    shown = set(re.findall(r'"error": {\s*"code": "(\w+)"', page))
    assert shown <= defined
    assert {code for code in defined - shown if f"`{code}`" not in page} == set()


def test_the_limit_of_values_in_json_is_the_limit() -> None:
    page = (REFERENCE / "inference-protocol.md").read_text()
    assert f"{MAX_VALUES:,} values" in page.replace("\n", " ")


def test_every_command_is_in_the_list_of_commands() -> None:
    page = (REFERENCE / "commands.md").read_text()
    chores = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {chore for chore in chores if f"`make {chore}`" not in page and chore != "help"} == set()
    for package in ("service", "training"):
        commands = find_commands(package)
        assert commands
        assert {name for name in commands if f"python -m {package} {name}" not in page} == set()


def test_every_field_of_a_config_is_documented() -> None:
    page = (REFERENCE / "training-configs.md").read_text()
    types = get_type_hints(Config)
    parts = (Config, types["input"], types["augment"])
    fields = {field for part in parts for field in signature(part).parameters}
    assert {field for field in fields if f"`{field}`" not in page} == set()


def test_every_config_of_the_repository_is_documented() -> None:
    page = (REFERENCE / "training-configs.md").read_text()
    configs = {path.stem for path in (ROOT / "training" / "configs").glob("[a-z]*.py")}
    assert {config for config in configs if f"`{config}`" not in page} == set()
