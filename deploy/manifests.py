"""Holds the Kubernetes manifests against the API's own schemas, without a cluster or a network.

What is judged is what `kubectl apply -k` would send, built by kustomize (or by the one in kubectl);
where neither is installed only the files as they are can be, and the verdict says so. KServe's
schema is no part of Kubernetes': of its InferenceService the pod is judged, which is most of it.
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
}
VERSIONS = ("1.30", "1.37")  # the oldest whose pods know how to sleep before a stop, and the newest
KSERVE_FIELDS = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}  # beside the pod's own

Document = dict[str, Any]


class ManifestFault(Exception):
    """A manifest that Kubernetes would refuse; one sentence says which and why."""


def main() -> int:
    """Judge all there is; a fault is one sentence."""
    try:
        judged = [*judge_kubernetes(ROOT / "kubernetes"), *judge_kserve(ROOT / "kserve")]
    except ManifestFault as fault:
        print(fault, file=sys.stderr)
        return 1
    versions = " and ".join(VERSIONS)
    print(f"Valid for Kubernetes {versions}: {', '.join(judged)}.")
    return 0


def judge_kubernetes(folder: Path) -> Iterator[str]:
    """What each kustomization builds, or the base's files as they are."""
    builder = find_builder()
    if builder is None:
        print("Neither kustomize nor kubectl is here: NOT judged is what the overlays make of it.")
        for path in sorted(folder.rglob("*.yaml")):
            if path.parent.name == "base" and path.name != "kustomization.yaml":
                judge(path.name, read(path.read_text()))
                yield path.name
        return
    for name, parts in KUSTOMIZATIONS.items():
        judge(name, read(build(builder, folder, parts)))
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
        ManifestFault: kustomize refuses it.
    """
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    kinds = {"resources": parts[:1], "components": parts[1:]}
    with tempfile.TemporaryDirectory() as own:
        together = shutil.copytree(folder, Path(own, "kubernetes")) / "together"
        together.mkdir()
        (together / "kustomization.yaml").write_text(yaml.safe_dump(head | kinds))
        ran = subprocess.run([*builder, together], capture_output=True, text=True)  # noqa: S603
    if ran.returncode:
        raise ManifestFault(f"{' + '.join(parts)} can't be built: {ran.stderr.strip()}")
    return ran.stdout


def read(text: str) -> list[Document]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(text) if document]


def judge(source: str, documents: list[Document]) -> None:
    """Each document against the schema of its kind, unknown fields refused, in each version.

    Raises:
        ManifestFault: one does not fit.
    """
    for document in documents:
        told = f"{source}: {document['kind']} {document['metadata'].get('name', '')}".strip()
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as fault:
                where = ".".join(map(str, fault.path)) or "at its top"
                sentence = f"{told} is no valid manifest for Kubernetes {version}"
                raise ManifestFault(f"{sentence}, {where}: {fault.message}.") from None


def judge_kserve(folder: Path) -> Iterator[str]:
    """The pod that KServe would make of each InferenceService."""
    for path in sorted(folder.glob("*.yaml")):
        for document in read(path.read_text()):
            predictor = document["spec"]["predictor"]
            spec = {name: part for name, part in predictor.items() if name not in KSERVE_FIELDS}
            name = document["metadata"]["name"]
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            judge(path.name, [pod])
        yield f"KServe's pod of {path.name}"


if __name__ == "__main__":
    sys.exit(main())
