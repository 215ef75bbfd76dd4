"""The container, built and run without an engine: `make image-test`; too long for `make test`.

buildah builds it on a base that debootstrap makes of Debian's packages (BASE_IMAGE names another)
and runs it by chroot, in a network of its own and with its root remounted read-only. What a chroot
can't show: dropped capabilities, seccomp, limits of memory, and the engine's own health checks.
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
import psutil
import pytest

from tests.server import PATIENCE, ROOT, wait_until

VARIANT = os.environ.get("VARIANT", "cpu")
BASE = os.environ.get("BASE_IMAGE", "localhost/sightglass-base")
IMAGE = f"localhost/sightglass:{VARIANT}"
BUILT = os.environ.get("IMAGE")  # already, for buildah: try that one
SUITE = "bookworm"
URL = "http://127.0.0.1:3000"
DRAIN_SECONDS = 3
CLONE_NEWNET = 0x40000000  # of unshare(2)
PICTURE = (ROOT / "docs" / "examples" / "dog_and_cat.jpg").read_bytes()
CHROOT = ("--isolation", "chroot")


def call(*command: str | Path, **options: Any) -> str:
    """Run a command; what it says."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options)
    return str(ran.stdout).strip()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The base image; made once, then kept by buildah."""
    for tool in ("buildah", "debootstrap"):
        assert shutil.which(tool), f"needs {tool}: apt-get install buildah debootstrap"
    assert os.getuid() == 0, "needs root: debootstrap and chroot do"
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
    """The image, built by `make image`."""
    if BUILT:
        return BUILT
    store = tmp_path_factory.mktemp("bentoml")
    # This machine's certificates and packages help to build, and stay out of the image.
    cache = Path.home() / ".cache" / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    volumes = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-v", f"{cache}:/root/.cache/uv"]
    options = ["--layers", "--format", "docker", *CHROOT, *volumes]
    own = {"BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True", "BUILDER": "buildah"}
    own |= {"BUILD_OPTIONS": " ".join(options), "BASE_IMAGE": base, "VARIANT": VARIANT}
    call("make", "image", cwd=ROOT, env=os.environ | own)
    return IMAGE


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    """A container of it, its root read-only, in a network that ends at itself."""
    name = call("buildah", "from", image)
    root = call("buildah", "mount", name)
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
    call("ip", "link", "set", "lo", "up")
    call("mount", "--bind", root, root)
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{root}/run")  # buildah notes there
    call("mount", "-o", "remount,bind,ro", root)
    yield name
    call("umount", "--recursive", root)
    call("buildah", "rm", name)


def describe(image: str) -> dict[str, Any]:
    """What the image says of itself."""
    config = json.loads(call("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    return dict(config)


def enter(container: str, *command: str) -> list[str]:
    """The command line that runs a command in the container, as the image's own user."""
    tmp = ["--mount", "type=tmpfs,destination=/tmp,tmpfs-size=64m,tmpfs-mode=1777"]
    drain = ["--env", f"SIGHTGLASS_DRAIN_SECONDS={DRAIN_SECONDS}"]
    return ["buildah", "run", *CHROOT, *tmp, *drain, container, "--", *command]


@pytest.fixture(scope="module")
def service(image: str, container: str) -> Iterator[psutil.Process]:
    """The image's own command; the process that an engine would signal."""
    runner = subprocess.Popen(enter(container, *describe(image)["Cmd"]))
    try:
        wait_until(lambda: is_ready() or runner.poll() is not None)
        assert runner.poll() is None, "it ended at once; buildah says why above"
        [launcher] = filter(is_launcher, psutil.Process(runner.pid).children(recursive=True))
        yield launcher
    finally:
        if runner.poll() is None:
            for process in psutil.Process(runner.pid).children(recursive=True):
                process.send_signal(signal.SIGINT)
        runner.wait(PATIENCE)


def is_launcher(process: psutil.Process) -> bool:
    """Whether it is the image's own command, not a worker of it or a trial that ends just now."""
    with contextlib.suppress(psutil.NoSuchProcess):
        name, words = str(process.name()), list(process.cmdline())
        return name.startswith("python") and words[1:4] == ["-m", "service", "serve"]
    return False


def is_ready() -> bool:
    """Whether it answers, and can."""
    try:
        return httpx.get(f"{URL}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_explains_a_photograph_with_the_bundled_model(service: psutil.Process) -> None:
    answer = httpx.post(f"{URL}/gradcam", content=PICTURE, timeout=PATIENCE)
    assert answer.status_code == 200
    assert answer.headers["x-model"].startswith("squeezenet1_1/")
    assert answer.content.startswith(b"\x89PNG")
    assert service.is_running()


def test_no_process_of_it_is_root(service: psutil.Process) -> None:
    processes = [service, *service.children(recursive=True)]
    assert len(processes) > 2
    assert {user for process in processes for user in process.uids()} == {10001}
    assert {group for process in processes for group in process.gids()} == {10001}


def test_its_root_is_read_only_and_only_tmp_is_its_own(container: str) -> None:
    script = (
        "import os; places = [d for d, names, _ in os.walk('/', topdown=True) "
        "if not any(names.remove(n) for n in ('proc', 'sys', 'dev') if d == '/' and n in names) "
        "and os.access(d, os.W_OK)]; print(*places)"
    )
    assert call(*enter(container, "python", "-c", script)) == "/tmp"
    write = subprocess.run(
        enter(container, "python", "-c", "open('/sightglass/x', 'w')"),
        capture_output=True,
        text=True,
    )
    assert "Read-only file system" in write.stderr


@pytest.mark.usefixtures("service")
def test_its_health_check_passes_while_it_is_ready(image: str, container: str) -> None:
    kind, *command = describe(image)["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert subprocess.run(enter(container, *command)).returncode == 0


def test_neither_torch_nor_a_compiler_nor_an_installer_is_in_it(container: str) -> None:
    script = (
        "import importlib.util as u, shutil; "
        "print([m for m in ('torch', 'torchvision', 'cv2', 'pip', 'training') if u.find_spec(m)], "
        "[t for t in ('cc', 'gcc', 'g++', 'clang', 'ld', 'as', 'make', 'pip', 'uv', 'git') "
        "if shutil.which(t)])"
    )
    assert call(*enter(container, "python", "-c", script)) == "[] []"


def test_told_to_stop_it_drains_and_ends(
    service: psutil.Process, image: str, container: str
) -> None:
    with httpx.Client(base_url=URL, timeout=PATIENCE) as client:
        service.terminate()
        told = time.monotonic()
        wait_until(lambda: client.get("/readyz").status_code == 503, DRAIN_SECONDS)
        assert client.post("/predict", content=PICTURE).status_code == 200
        assert service.is_running()
    gone, alive = psutil.wait_procs([service], PATIENCE)
    assert (len(gone), alive) == (1, [])
    assert time.monotonic() - told >= DRAIN_SECONDS
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{URL}/livez")
    _, *command = describe(image)["Healthcheck"]["Test"]
    health = subprocess.run(enter(container, *command), capture_output=True)
    assert health.returncode != 0


def test_its_size(image: str, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {
        name: call("buildah", "images", "--format", "{{.Size}}", name) for name in (image, base)
    }
    with capsys.disabled():
        sys.stdout.write(f"\n{image}: {sizes[image]}, of which its base {base}: {sizes[base]}\n")
