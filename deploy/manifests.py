"""Validates the Kubernetes manifests against the API's own schemas, without a cluster or network.

It validates what `kubectl apply -k` would send, built by kustomize or kubectl. If neither is
installed, it validates the files as they are and says so. Kubernetes' schemas contain neither
KServe's nor KEDA's. So of an InferenceService it validates only the pod, which is most of it, and
of a ScaledObject the autoscaler that KEDA makes of it.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).parent
KUSTOMIZATIONS = {
    "base": ["../base"],
    "gpu": ["../gpu"],
    "base with models-volume": ["../base", "../models-volume"],
    "gpu with models-image": ["../gpu", "../models-image"],
    "base with queue-length": ["../base", "../queue-length"],
}
VERSIONS = ("1.30", "1.37")  # the oldest whose preStop hooks can sleep, and the newest
KSERVE_FIELDS = {
    "minReplicas",
    "maxReplicas",
    "scaleMetric",
    "scaleTarget",
}  # fields that a pod does not have
# Since 0.16, KServe rejects the metrics `cpu` and `memory` without these annotations.
KSERVE_SCALING = {
    "serving.kserve.io/deploymentMode": "Standard",
    "serving.kserve.io/autoscalerClass": "hpa",
}

Document = dict[str, Any]


# Fields of a ScaledObject and of its triggers that the manifests may use.
KEDA_FIELDS = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval"}
TRIGGER_FIELDS = {"type", "metricType", "metadata"}


class ManifestError(Exception):
    """Kubernetes would reject a manifest; the message says which one and why."""


def main() -> int:
    """Validate all manifests. An error is one sentence."""
    try:
        valid = [*validate_kubernetes(ROOT / "kubernetes"), *validate_kserve(ROOT / "kserve")]
    except ManifestError as exc:
        print(exc, file=sys.stderr)
        return 1
    versions = " and ".join(VERSIONS)
    print(f"Valid for Kubernetes {versions}: {', '.join(valid)}.")
    return 0


def validate_kubernetes(folder: Path) -> Iterator[str]:
    """Validate what each kustomization builds, or the files of the base as they are."""
    builder = find_builder()
    if builder is None:
        print("The overlays were NOT checked, because neither kustomize nor kubectl is installed.")
        for path in sorted(folder.rglob("*.yaml")):
            if path.parent.name == "base" and path.name != "kustomization.yaml":
                validate(path.name, read_documents(path.read_text()))
                yield path.name
        return
    for name, parts in KUSTOMIZATIONS.items():
        validate(name, read_documents(build(builder, folder, parts)))
        yield name


def find_builder() -> list[str] | None:
    """The command that builds a kustomization."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            return command
    return None


def build(builder: list[str], folder: Path, parts: list[str]) -> str:
    """The YAML of a base or overlay with components, as a user would combine them.

    Raises:
        ManifestError: kustomize can't build it.
    """
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    kinds = {"resources": parts[:1], "components": parts[1:]}
    with tempfile.TemporaryDirectory() as temporary:
        combined = shutil.copytree(folder, Path(temporary, "kubernetes")) / "combined"
        combined.mkdir()
        (combined / "kustomization.yaml").write_text(yaml.safe_dump(head | kinds))
        result = subprocess.run([*builder, combined], capture_output=True, text=True)  # noqa: S603
    if result.returncode:
        raise ManifestError(f"{' + '.join(parts)} can't be built: {result.stderr.strip()}")
    return result.stdout


def read_documents(text: str) -> list[Document]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(text) if document]


def validate(source: str, documents: list[Document]) -> None:
    """Validate each document against the schema of its kind in each version of Kubernetes.

    Unknown fields are errors.

    Raises:
        ManifestError: a document is not valid.
    """
    for document in documents:
        name = f"{source}: {document['kind']} {document['metadata'].get('name', '')}".strip()
        if document["kind"] == "ScaledObject":
            document = make_autoscaler(name, document)
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as exc:
                field = ".".join(map(str, exc.path)) or "top level"
                sentence = f"{name} is not a valid manifest for Kubernetes {version}"
                raise ManifestError(f"{sentence}, {field}: {exc.message}.") from None


def make_autoscaler(name: str, scaled: Document) -> Document:
    """The autoscaler that KEDA makes of a ScaledObject.

    Raises:
        ManifestError: it has a field that is not known here.
    """
    spec = dict(scaled["spec"])
    config = spec.pop("advanced", {}).get("horizontalPodAutoscalerConfig", {})
    triggers = spec.pop("triggers")
    unknown = sorted(spec.keys() - KEDA_FIELDS)
    unknown += sorted(field for trigger in triggers for field in trigger.keys() - TRIGGER_FIELDS)
    if unknown:
        raise ManifestError(f"{name} has fields that are not known here: {', '.join(unknown)}.")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{scaled['metadata']['name']}"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment"}
            | spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [make_metric(number, trigger) for number, trigger in enumerate(triggers)],
            **config,
        },
    }


def make_metric(number: int, trigger: Document) -> Document:
    """The metric of an autoscaler that KEDA makes of a trigger."""
    kind, metadata, target = trigger["type"], trigger["metadata"], {"type": trigger["metricType"]}
    if kind == "cpu":
        target["averageUtilization"] = int(metadata["value"])
        return {"type": "Resource", "resource": {"name": kind, "target": target}}
    target["averageValue"] = metadata["threshold"]
    metric = {"name": f"s{number}-{kind}"}
    return {"type": "External", "external": {"metric": metric, "target": target}}


def validate_kserve(folder: Path) -> Iterator[str]:
    """Validate the pod that KServe would make from each InferenceService, and its annotations."""
    for path in sorted(folder.glob("*.yaml")):
        for document in read_documents(path.read_text()):
            predictor = document["spec"]["predictor"]
            annotations = document["metadata"].get("annotations", {})
            if "scaleMetric" in predictor and not KSERVE_SCALING.items() <= annotations.items():
                needed = " and ".join(f"{name}: {value}" for name, value in KSERVE_SCALING.items())
                raise ManifestError(f"{path.name} has a scaleMetric, which needs {needed}.")
            spec = {name: part for name, part in predictor.items() if name not in KSERVE_FIELDS}
            name = document["metadata"]["name"]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            validate(path.name, [pod])
        yield f"KServe's pod of {path.name}"


if __name__ == "__main__":
    sys.exit(main())
