"""The wheel, built and installed into an environment of its own, serves from an empty folder."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.server import ROOT, find_free_port, run_server, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel. Its dependencies are the ones of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    uv = (sys.executable, "-m", "uv", "--offline")
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "env")], check=True)
    python = str(folder / "env" / "bin" / "python")
    install = [*uv, "pip", "install", "--no-deps", "--no-index", "--python", python, str(wheel)]
    subprocess.run(install, check=True)
    [packages] = (folder / "env" / "lib").glob("*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "env"


def test_nothing_but_the_package_is_at_the_top(environment: Path) -> None:
    [packages] = (environment / "lib").glob("*/site-packages")
    names = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert {name for name in names if not name.startswith("_")} == {"sightglass", "shared.pth"}
    said = [path.read_text() for path in packages.rglob("sightglass/**/*.py")]
    assert not [text for text in said if "\nfrom service" in text or "\nfrom training" in text]


def test_the_wheel_serves_the_bundled_models_from_an_empty_folder(
    environment: Path, tmp_path: Path
) -> None:
    port, empty = find_free_port(), tmp_path / "empty"
    empty.mkdir()
    own = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
    own |= {"SIGHTGLASS_DRAIN_SECONDS": "0"}
    command = [str(environment / "bin" / "sightglass"), "serve", "--port", str(port)]
    with run_server(command, port, own, tmp_path / "log", empty) as server:
        server.wait_ready()
        examples = ROOT / "docs" / "examples"
        dog = server.client.post("/predict", content=(examples / "dog_and_cat.jpg").read_bytes())
        assert dog.json()["predictions"][0]["label"] == "bull mastiff"
        wait_until(lambda: "lenet5" in server.client.get("/models").text)
        seven = (examples / "seven.png").read_bytes()

        def is_seven() -> bool:
            answer = server.client.post("/predict?model=lenet5", content=seven)
            return answer.status_code == 200 and answer.json()["predictions"][0]["label"] == "7"

        wait_until(is_seven)
        page = ROOT / "service" / "page"
        assert server.client.get("/").content == (page / "index.html").read_bytes()
        assert server.client.get("/page/icon.svg").content == (page / "icon.svg").read_bytes()
        log = server.wait_logged("-o heatmap.png")
        [shown] = [line for line in log.splitlines() if line.endswith("/predict")]
        assert Path(shown.split("image=@")[1].split()[0]).is_file()
        server.stop()
    assert list(empty.iterdir()) == []
