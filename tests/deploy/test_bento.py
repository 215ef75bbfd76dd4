"""The contents of the Bento that `bentoml build` makes, and a test that it serves."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service import __version__
from tests.server import ROOT, find_free_port, run_server

TRACKED = (
    "bentofile.yaml",
    "README.md",
    "LICENSE",
    "NOTICE",
    "deploy",
    "docs",
    "models",
    "requirements",
    "service",
)
BUILD = "bentoml build"  # as in the README
SERVE = "bentoml serve sightglass:latest"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An empty Bento store without settings."""
    own = {"BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml")), "BENTOML_DO_NOT_TRACK": "True"}
    return {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")} | own


@pytest.fixture(scope="module")
def bento(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Bento."""
    source = tmp_path_factory.mktemp("source")
    for name in (*TRACKED, "training", "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    command = [sys.executable, "-m", *BUILD.split(), "--output", "tag"]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    [folder] = Path(environment["BENTOML_HOME"], "bentos", "sightglass").glob("*/")
    return folder


def test_the_bento_has_the_service_and_the_models_but_no_training_code(bento: Path) -> None:
    files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*")}
    assert {
        "service/app.py",
        "service/imaging/colormaps.png",
        "service/page/docs/docs.html",
    } <= files
    assert {"models/lenet5/1/model.onnx", "docs/examples/seven.png", "NOTICE"} <= files
    assert not [file for file in files if file.startswith(("training", "tests"))]


def test_the_bento_has_the_container_files_of_both_variants(bento: Path) -> None:
    ours = (ROOT / "deploy" / "container" / "Dockerfile").read_text()
    assert (bento / "env" / "docker" / "Dockerfile").read_text().strip() == ours.strip()
    cpu, gpu = ((bento / f"src/requirements/{name}.txt").read_text() for name in ("cpu", "gpu"))
    assert "onnxruntime==" in cpu
    assert "onnxruntime-gpu==" not in cpu
    assert "nvidia-cudnn" in gpu
    assert "torch==" not in cpu + gpu


def test_the_image_and_make_sbom_list_packages_with_the_same_tool() -> None:
    [version] = re.findall(r"^CYCLONEDX := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    stages = (ROOT / "deploy" / "container" / "Dockerfile").read_text().split("\nFROM ")
    assert f"cyclonedx-bom=={version} " in stages[1]
    assert "-o /sbom.cdx.json /venv/bin/python" in stages[1]
    assert "COPY --from=packages /sbom.cdx.json /sightglass/sbom.cdx.json" in stages[2]


@pytest.mark.slow
def test_make_image_passes_the_bento_to_the_engine(
    environment: dict[str, str], tmp_path: Path
) -> None:
    installed = ("-o", f"{sys.prefix}/serve.installed")
    asked = (
        f"VENV={sys.prefix}",
        "VARIANT=gpu",
        "BASE_IMAGE=mine",
        "BUILDER=echo",
        "BUILD_OPTIONS=--pull",
    )
    said = subprocess.run(
        ["make", "image", *installed, *asked],
        cwd=ROOT,
        env=environment | {"BENTOML_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    [folder] = tmp_path.glob("bentos/sightglass/*/")
    dockerfile = folder / "env" / "docker" / "Dockerfile"
    assert dockerfile.is_file()
    arguments = "--build-arg VARIANT=gpu --build-arg BASE_IMAGE=mine"
    arguments += f" --build-arg VERSION={__version__}"
    called = f"build --pull -t sightglass:gpu {arguments} -f {dockerfile} {folder}"
    assert called in said.splitlines()


def test_the_requirements_are_pinned_and_contain_no_torch(bento: Path) -> None:
    requirements = (bento / "env" / "python" / "requirements.txt").read_text()
    assert "onnxruntime-gpu==" in requirements
    assert "--hash=sha256:" in requirements
    assert "torch==" not in requirements
    assert "opencv" not in requirements


@pytest.mark.slow
def test_the_bento_serves(bento: Path, environment: dict[str, str], tmp_path: Path) -> None:
    port = find_free_port()
    command = [sys.executable, "-m", *SERVE.split()]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    own = {"SIGHTGLASS_DEFAULT_MODEL": "lenet5", "SIGHTGLASS_DRAIN_SECONDS": "0"}
    with run_server(command, port, environment | own, tmp_path / "log", tmp_path) as server:
        server.wait_ready()
        digit = (ROOT / "docs" / "examples" / "seven.png").read_bytes()
        answer = server.client.post("/predict", content=digit)
        assert answer.json()["predictions"][0]["label"] == "7"
        server.stop()
    assert bento.exists()
