"""The check rejects manifests that Kubernetes would reject, and a stop has enough time."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.manifests import (
    ManifestError,
    build,
    find_builder,
    make_autoscaler,
    read_documents,
    validate_kserve,
    validate_kubernetes,
)
from service.settings import read_settings
from tests.server import ROOT

DEPLOY = ROOT / "deploy"
BUILDER = find_builder()
needs_kustomize = pytest.mark.skipif(BUILDER is None, reason="needs kustomize or kubectl")
BROKEN = [
    ("kubernetes/base/deployment.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    ("kubernetes/base/deployment.yaml", "containerPort: 3000", "containerPort: http"),
    ("kubernetes/base/disruption.yaml", "maxUnavailable", "maxUnavailble"),
    ("kubernetes/base/autoscaling.yaml", "averageUtilization: 70", "averageUtilization: 70%"),
    ("kserve/inferenceservice.yaml", "runAsNonRoot", "runAsNoRoot"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the manifests that a test can modify."""
    return Path(shutil.copytree(DEPLOY, tmp_path / "deploy"))


def validate_all(folder: Path) -> list[str]:
    return [*validate_kubernetes(folder / "kubernetes"), *validate_kserve(folder / "kserve")]


def replace_text(path: Path, right: str, wrong: str) -> None:
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong, 1))


@pytest.mark.parametrize(("name", "right", "wrong"), BROKEN)
def test_a_wrong_field_is_rejected_even_without_kustomize(
    folder: Path, name: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    validate_all(folder)
    replace_text(folder / name, right, wrong)
    with pytest.raises(ManifestError, match="is not a valid manifest for Kubernetes"):
        validate_all(folder)


@pytest.mark.parametrize(("right", "wrong"), [("Standard", "RawDeployment"), ("hpa", "external")])
def test_an_autoscaler_that_kserve_rejects_is_rejected(
    folder: Path, right: str, wrong: str
) -> None:
    """Its admission webhook knows the metric `cpu` only with both annotations."""
    replace_text(folder / "kserve/inferenceservice.yaml", right, wrong)
    with pytest.raises(ManifestError, match=r"scaleMetric, which needs .*: Standard and .*: hpa\."):
        validate_all(folder)


@needs_kustomize
def test_a_wrong_field_in_an_overlay_is_rejected(folder: Path) -> None:
    replace_text(folder / "kubernetes/gpu/deployment.yaml", "tolerations", "toleration")
    with pytest.raises(ManifestError, match=r"gpu: Deployment sightglass .*'toleration'"):
        validate_all(folder)


@needs_kustomize
def test_a_kustomization_that_cannot_be_built_is_rejected(folder: Path) -> None:
    replace_text(folder / "kubernetes/gpu/kustomization.yaml", "../base", "../bass")
    with pytest.raises(ManifestError, match="can't be built"):
        validate_all(folder)


def build_scaled(folder: Path) -> dict[str, Any]:
    """What a user gets who scales on the queue, by its kind."""
    assert BUILDER
    text = build(BUILDER, folder / "kubernetes", ["../base", "../queue-length"])
    return {document["kind"]: document for document in read_documents(text)}


@needs_kustomize
def test_one_autoscaler_alone_scales_on_the_queue() -> None:
    """KEDA makes one of its own, with the limits of the base's and its metric of the CPU."""
    found = build_scaled(DEPLOY)
    assert "HorizontalPodAutoscaler" not in found
    scaled = found["ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    [own] = read_documents((DEPLOY / "kubernetes/base/autoscaling.yaml").read_text())
    made = make_autoscaler("", scaled)["spec"]
    assert {k: made[k] for k in ("minReplicas", "maxReplicas", "scaleTargetRef")} == {
        k: own["spec"][k] for k in ("minReplicas", "maxReplicas", "scaleTargetRef")
    }
    assert own["spec"]["metrics"][0] in made["metrics"]


@needs_kustomize
def test_the_queue_is_asked_for_by_a_metric_that_the_service_has() -> None:
    [queue, _] = build_scaled(DEPLOY)["ScaledObject"]["spec"]["triggers"]
    [name] = re.findall(r"sightglass_\w+", queue["metadata"]["query"])
    assert name in (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert int(queue["metadata"]["threshold"]) < read_settings().max_queue_size


@needs_kustomize
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("stabilizationWindowSeconds", "stabilisationWindowSeconds", "stabilisationWindow"),
        ("maxReplicaCount", "maxReplicas", "not known here: maxReplicas"),
        ("metricType: AverageValue", "metricType: 1", "is not of type 'string'"),
        ("metadata:\n        serverAddress", "metadat: {}\n      metadata:\n        serverAddress",
         "not known here: metadat"),
    ],
)  # fmt: skip
def test_a_wrong_field_of_the_scaled_object_is_rejected(
    folder: Path, right: str, wrong: str, message: str
) -> None:
    replace_text(folder / "kubernetes/queue-length/scaledobject.yaml", right, wrong)
    with pytest.raises(ManifestError, match=message):
        validate_all(folder)


def find_pod(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the pod of the Deployment."""
    [pod] = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    return dict(pod)


def read_environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@needs_kustomize
def test_on_a_gpu_the_container_requests_a_gpu_and_requires_it() -> None:
    assert BUILDER
    pod = find_pod(
        read_documents(build(BUILDER, DEPLOY / "kubernetes", ["../gpu", "../models-image"]))
    )
    [container] = pod["containers"]
    assert container["image"].endswith("-gpu")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    environment = read_environment(container)
    assert environment["SIGHTGLASS_DEVICE"] == "cuda"
    assert environment["SIGHTGLASS_MODELS_DIR"] == "/models"
    assert environment["SIGHTGLASS_DRAIN_SECONDS"] == "10"  # from the base


def compute_stop_seconds(container: dict[str, Any]) -> float:
    """Seconds from the stop signal until the last accepted request is answered."""
    hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = float(read_environment(container)["SIGHTGLASS_DRAIN_SECONDS"])
    return float(hook) + drain + read_settings().request_timeout_ms / 1000


@pytest.mark.parametrize("kind", ["deployment", "kserve"])
def test_a_pod_is_not_killed_before_it_has_drained(kind: str) -> None:
    if kind == "deployment":
        pod = find_pod(read_documents((DEPLOY / "kubernetes/base/deployment.yaml").read_text()))
    else:
        [service] = read_documents((DEPLOY / "kserve/inferenceservice.yaml").read_text())
        pod = service["spec"]["predictor"]
    assert pod["terminationGracePeriodSeconds"] > compute_stop_seconds(pod["containers"][0])


def test_compose_waits_until_the_service_has_drained() -> None:
    [service] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    settings = read_settings()
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_seconds + settings.request_timeout_ms / 1000
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_compose_with_models_alone_sets_no_default_model() -> None:
    [service] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    dockerfile = (DEPLOY / "container" / "Dockerfile").read_text()
    [workdir] = re.findall(r"^WORKDIR (.+)$", dockerfile, re.MULTILINE)
    assert service["volumes"] == [f"${{MODELS:-./models}}:{workdir}/models:ro"]
    assert "SIGHTGLASS_MODELS_DIR" not in service["environment"]
    assert service["environment"]["SIGHTGLASS_DEFAULT_MODEL"] == "${DEFAULT_MODEL:-}"


def test_make_check_validates_the_manifests_and_the_alert_rules() -> None:
    result = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True)
    assert "-m deploy.manifests" in result.stdout
    assert "promtool test rules" in result.stdout
