"""The container image works. `make image-test` runs these tests; `make test` does not.

They need no container engine. buildah builds the image on a base that debootstrap makes (BASE_IMAGE
names another base). It runs the image with chroot, in a separate network and with a read-only root.
A chroot does not test dropped capabilities, seccomp, memory limits and the engine's health checks.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from service import __version__
from tests.server import PATIENCE, ROOT, wait_until

VARIANT = os.environ.get("VARIANT", "cpu")
BASE = os.environ.get("BASE_IMAGE", "localhost/sightglass-base")
IMAGE = f"localhost/sightglass:{VARIANT}"
BUILT = os.environ.get("IMAGE")  # an image that buildah already has
SUITE = "bookworm"
URL = "http://127.0.0.1:3000"
GRPC_PORT = 9000
DRAIN_SECONDS = 3
CLONE_NEWNET = 0x40000000  # a flag of unshare(2)
PICTURE = (ROOT / "docs" / "examples" / "dog_and_cat.jpg").read_bytes()
LIST_PACKAGES = """
import json, importlib.metadata as m
print(json.dumps([package.name for package in m.distributions()]))
"""
CHROOT = ("--isolation", "chroot")


def call(*command: str | Path, **options: Any) -> str:
    """Run a command and return its output."""
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options)
    return str(result.stdout).strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image. buildah keeps it after the first run."""
    for tool in ("buildah", "debootstrap"):
        assert shutil.which(tool), f"needs {tool}: apt-get install buildah debootstrap"
    assert os.getuid() == 0, "needs root for debootstrap and chroot"
    if subprocess.run(
        ["buildah", "inspect", "--type", "image", BASE], capture_output=True
    ).returncode:
        folder = tmp_path_factory.mktemp("base")
        packages = "--include=python3,python3-venv,ca-certificates"
        call("debootstrap", "--variant=minbase", packages, SUITE, folder / "root")
        with tarfile.open(folder / "base.tar", "w") as tar:
            for part in ("var/cache/apt", "var/lib/apt/lists"):
                shutil.rmtree(folder / "root" / part)
            tar.add(folder / "root", "/")
        (folder / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
        call("buildah", "bud", *CHROOT, "-t", BASE, "-f", folder / "Containerfile", folder)
    return BASE


@pytest.fixture(scope="module")
def image(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that `make image` builds."""
    if BUILT:
        return BUILT
    store = tmp_path_factory.mktemp("bentoml")
    # The build uses certificates and packages of this machine; they do not get into the image.
    cache = Path.home() / ".cache" / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    volumes = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-v", f"{cache}:/root/.cache/uv"]
    options = ["--layers", "--format", "docker", *CHROOT, *volumes]
    environment = {"BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True", "BUILDER": "buildah"}
    environment |= {"BUILD_OPTIONS": " ".join(options), "BASE_IMAGE": base, "VARIANT": VARIANT}
    call("make", "image", cwd=ROOT, env=os.environ | environment)
    return IMAGE


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    """A container with a read-only root, in a network without other machines."""
    name = call("buildah", "from", image)
    root = call("buildah", "mount", name)
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
    call("ip", "link", "set", "lo", "up")
    call("mount", "--bind", root, root)
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/run")  # buildah writes here
    call("mount", "-o", "remount,bind,ro", root)
    yield name
    call("umount", "--recursive", root)
    call("buildah", "rm", name)


def read_config(image: str) -> dict[str, Any]:
    """The configuration in the image."""
    config = json.loads(call("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    return dict(config)


def make_command(container: str, *command: str) -> list[str]:
    """The command line that runs `command` in the container as the image's user."""
    tmp = ["--mount", "type=tmpfs,destination=/tmp,tmpfs-size=64m,tmpfs-mode=1777"]
    settings = {"DRAIN_SECONDS": DRAIN_SECONDS, "GRPC_PORT": GRPC_PORT}
    environment = [f"--env=SIGHTGLASS_{name}={value}" for name, value in settings.items()]
    return ["buildah", "run", *CHROOT, *tmp, *environment, container, "--", *command]


@pytest.fixture(scope="module")
def service(image: str, container: str) -> Iterator[psutil.Process]:
    """The process of the image's command, which an engine would signal."""
    runner = subprocess.Popen(make_command(container, *read_config(image)["Cmd"]))
    try:
        wait_until(lambda: is_ready() or runner.poll() is not None)
        assert runner.poll() is None, "it ended at once; see the output of buildah above"
        [launcher] = filter(is_launcher, psutil.Process(runner.pid).children(recursive=True))
        yield launcher
    finally:
        if runner.poll() is None:
            for process in psutil.Process(runner.pid).children(recursive=True):
                process.send_signal(signal.SIGINT)
        runner.wait(PATIENCE)


def is_launcher(process: psutil.Process) -> bool:
    """Whether this is the image's command, not a worker or a short sandbox process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        name, words = str(process.name()), list(process.cmdline())
        return name.startswith("python") and words[1:4] == ["-m", "service", "serve"]
    return False


def is_ready() -> bool:
    """Whether the service answers and is ready."""
    try:
        return httpx.get(f"{URL}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_the_image_explains_a_photograph_with_the_bundled_model(service: psutil.Process) -> None:
    answer = httpx.post(f"{URL}/gradcam", content=PICTURE, timeout=PATIENCE)
    assert answer.status_code == 200
    assert answer.headers["x-model"].startswith("efficientnet_lite0/")
    assert answer.content.startswith(b"\x89PNG")
    assert service.is_running()


@pytest.mark.usefixtures("service")
def test_the_image_serves_all_bundled_models_also_over_grpc() -> None:
    triton = pytest.importorskip("tritonclient.grpc", reason="no tritonclient or no grpcio")
    names = sorted(path.name for path in (ROOT / "models").iterdir())

    def list_versions() -> list[dict[str, Any]]:
        models = httpx.get(f"{URL}/models", timeout=PATIENCE).json()["models"]
        assert [model["name"] for model in models] == names
        return [version for model in models for version in model["versions"]]

    wait_until(lambda: all(one["state"] != "loading" for one in list_versions()))
    assert {(one["state"], one["reason"]) for one in list_versions()} == {("ready", None)}
    with triton.InferenceServerClient(f"127.0.0.1:{GRPC_PORT}") as client:
        assert all(client.is_model_ready(name) for name in names)
        picture = triton.InferInput("image", [1], "BYTES")
        picture.set_data_from_numpy(np.array([PICTURE], np.object_))
        answer = client.infer("efficientnet_lite0", [picture])
    assert answer.as_numpy("probabilities").shape == (1, 1000)


def test_no_process_of_the_image_runs_as_root(service: psutil.Process) -> None:
    processes = [service, *service.children(recursive=True)]
    assert len(processes) > 2
    assert {user for process in processes for user in process.uids()} == {10001}
    assert {group for process in processes for group in process.gids()} == {10001}


def test_the_root_is_read_only_and_only_tmp_is_writable(container: str) -> None:
    script = (
        "import os; places = [d for d, names, _ in os.walk('/', topdown=True) "
        "if not any(names.remove(n) for n in ('proc', 'sys', 'dev') if d == '/' and n in names) "
        "and os.access(d, os.W_OK)]; print(*places)"
    )
    assert call(*make_command(container, "python", "-c", script)) == "/tmp"
    write = subprocess.run(
        make_command(container, "python", "-c", "open('/sightglass/x', 'w')"),
        capture_output=True,
        text=True,
    )
    assert "Read-only file system" in write.stderr


@pytest.mark.usefixtures("service")
def test_the_health_check_passes_while_the_service_is_ready(image: str, container: str) -> None:
    kind, *command = read_config(image)["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert subprocess.run(make_command(container, *command)).returncode == 0


def test_the_image_has_no_torch_no_compiler_and_no_installer(container: str) -> None:
    script = (
        "import importlib.util as u, shutil; "
        "print([m for m in ('torch', 'torchvision', 'cv2', 'pip', 'training') if u.find_spec(m)], "
        "[t for t in ('cc', 'gcc', 'g++', 'clang', 'ld', 'as', 'make', 'pip', 'uv', 'git') "
        "if shutil.which(t)])"
    )
    assert call(*make_command(container, "python", "-c", script)) == "[] []"


def test_the_image_lists_its_packages_and_has_labels(image: str, container: str) -> None:
    command = ["python", "-c", LIST_PACKAGES]
    installed = json.loads(call(*make_command(container, *command)))
    assert ("openvino" in installed) == (VARIANT == "cpu")
    listed = json.loads(call(*make_command(container, "cat", "/sightglass/sbom.cdx.json")))
    assert listed["bomFormat"] == "CycloneDX"
    assert {part["name"] for part in listed["components"]} == set(installed)
    labels = read_config(image)["Labels"]
    assert labels["org.opencontainers.image.title"] == "Sightglass"
    assert labels["org.opencontainers.image.version"] == __version__


def test_the_service_drains_and_ends_on_sigterm(
    service: psutil.Process, image: str, container: str
) -> None:
    with httpx.Client(base_url=URL, timeout=PATIENCE) as client:
        service.terminate()
        stopped_at = time.monotonic()
        wait_until(lambda: client.get("/readyz").status_code == 503, DRAIN_SECONDS)
        assert client.post("/predict", content=PICTURE).status_code == 200
        assert service.is_running()
    gone, alive = psutil.wait_procs([service], PATIENCE)
    assert (len(gone), alive) == (1, [])
    assert time.monotonic() - stopped_at >= DRAIN_SECONDS
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{URL}/livez")
    _, *command = read_config(image)["Healthcheck"]["Test"]
    health = subprocess.run(make_command(container, *command), capture_output=True)
    assert health.returncode != 0


def test_the_size_is_printed(image: str, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {
        name: call("buildah", "images", "--format", "{{.Size}}", name) for name in (image, base)
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{image}: {sizes[image]}, including its base {base}: {sizes[base]}\n")
