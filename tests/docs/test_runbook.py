"""The runbook has a section for each alert, and no section for an alert that is gone."""

import re
from typing import Any

import pytest
import yaml

from tests.server import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"
PARTS = ("**Means.**", "**Users notice**", "**Look at**", "**Do", "**Over**")


def find_alerts() -> dict[str, dict[str, Any]]:
    """Every alerting rule by its name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def find_sections() -> dict[str, str]:
    """The text of every section by its heading."""
    _, *parts = re.split(r"^## (.*)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_a_section() -> None:
    assert set(find_sections()) == set(find_alerts())


@pytest.mark.parametrize("name", find_alerts())
def test_a_section_says_what_it_means_what_to_do_and_when_it_is_over(name: str) -> None:
    assert [part for part in PARTS if part not in find_sections()[name]] == []


def test_a_link_to_the_runbook_leads_to_the_alerts_own_section() -> None:
    for name, rule in find_alerts().items():
        if url := rule["annotations"].get("runbook_url"):
            page, _, heading = url.partition("#")
            assert page.endswith(str(RUNBOOK.relative_to(ROOT)))
            assert heading == name.lower()
