"""Alert rules and dashboard use metrics that exist, and a test shows each alert firing."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import service.telemetry.metrics  # noqa: F401  # fills the registry
from tests.contract.tree import PICTURE
from tests.server import ROOT, Server

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sightglass.json").read_text())
GROUPS = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}
NEVER_COUNTED_HERE = {
    "sightglass_dropped_total",
    "sightglass_failed_total",
}  # absent until the first event
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool")


def find_queries() -> list[str]:
    """Every query of the dashboard as Grafana sends it to Prometheus."""
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [t["expr"].replace("$__rate_interval", "5m").replace("$job", ".*") for t in targets]


def run_promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True)


def test_the_service_exposes_every_metric_of_a_query(server: Server) -> None:
    server.client.post("/gradcam", content=PICTURE)
    server.client.post("/predict", content=b"no picture")
    page = server.client.get("/metrics").text
    typed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("", "_total")}
    exposed = {name + end for name, kind in typed.items() for end in suffixes.get(kind, ("",))}
    queries = [*find_queries(), *(rule["expr"] for rule in RULES)]
    queried = {name for query in queries for name in re.findall(r"\bsightglass_\w+", query)}
    assert len(queried) > 15
    assert queried - exposed <= NEVER_COUNTED_HERE
    assert {name.removesuffix("_total") for name in NEVER_COUNTED_HERE} <= {
        family.name for family in REGISTRY.collect() if family.type == "counter"
    }
    for route in ("/predict", "/gradcam"):  # the objective's bound is one of the buckets
        assert re.search(rf'request_seconds_bucket\{{le="1.0",route="{route}"\}}', page)


def test_the_service_exposes_every_label_of_a_query(server: Server) -> None:
    server.client.post("/gradcam", content=PICTURE)
    page = server.client.get("/metrics").text
    for query in [*find_queries(), *(rule["expr"] for rule in RULES)]:
        for name, matchers in re.findall(r"\b(sightglass_\w+)\{([^}]*)\}", query):
            queried = set(re.findall(r"(\w+)=~?\"", matchers)) - {"job"}
            lines = re.findall(rf"^{name}\{{(.*)\}} ", page, re.M)
            if lines:  # a counter without any event has no line yet
                assert queried <= set(re.findall(r"(\w+)=\"", lines[0])), query


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases: list[dict[str, Any]] = [
        case
        for test in yaml.safe_load((PROMETHEUS / "tests.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == ALERTS
    several = {"SightglassMapsAreEmpty", "SightglassAttentionDrifts"}  # other models of one case
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == ALERTS - several


@needs_promtool
def test_the_alert_rules_pass_their_tests() -> None:
    result = run_promtool("test", "rules", PROMETHEUS / "tests.yaml")
    assert result.returncode == 0, result.stderr


@needs_promtool
def test_a_wrong_threshold_fails_the_tests_of_the_rules(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = tmp_path / "alerts.yaml"
    rules.write_text(rules.read_text().replace("> 0.15", "> 0.35"))
    assert run_promtool("check", "rules", rules).returncode == 0
    result = run_promtool("test", "rules", tmp_path / "tests.yaml")
    assert result.returncode != 0
    assert "SightglassAttentionDrifts" in result.stdout + result.stderr


@needs_promtool
def test_every_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    queries = find_queries()
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    result = run_promtool("check", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(queries)} rules found" in result.stdout


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["uid"] == "sightglass"
    variables = {entry["name"] for entry in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) <= variables | {
        "__rate_interval",
        "__all",
    }
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(box["x"] >= 0 and box["x"] + box["w"] <= 24 for box in boxes)
