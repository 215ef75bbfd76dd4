"""A server looks up nobody's address, however it is started.

In its home it writes nothing but what it measured of the engines.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import PATIENCE, ROOT, find_free_port

NAMESPACES = ("unshare", "--map-root-user", "--net", "--mount")
PROBE = "the-watch-works.invalid"  # looked up on purpose, so that a deaf name server is noticed
STARTS = {
    "bentoml": ("bentoml", "serve", "service.app:Sightglass", "--host", "127.0.0.1"),
    "command": ("service", "serve"),
}


def can_have_namespaces() -> bool:
    try:
        return subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not can_have_namespaces(), reason="needs Linux with namespaces for users")
@pytest.mark.parametrize("start", STARTS)
def test_a_server_asks_nobody(start: str, quadrants_dir: Path, tmp_path: Path) -> None:
    home, log, port = tmp_path / "home", tmp_path / "log", str(find_free_port())
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHT", "BENTO"))}
    environment |= {
        "HOME": str(home),
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "SIGHTGLASS_MODELS_DIR": str(quadrants_dir),
        "SIGHTGLASS_DRAIN_SECONDS": "0",
    }
    picture = str(ROOT / "docs" / "examples" / "seven.png")
    watch = [*NAMESPACES, sys.executable, "-m", "tests.package.quiet_network", picture, port]
    command = [*watch, str(log), sys.executable, "-m", *STARTS[start], "--port", port]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["label"], log.read_text()
    assert said["asked"] == [PROBE]
    assert "telemetry" not in log.read_text()
    written = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert all(path.match(".cache/sightglass/engines/*.json") for path in written), written
