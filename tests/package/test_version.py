"""The version is one number, wherever it is said."""

import re

import httpx

import service
import training
from tests.server import ROOT, Server


def test_service_and_training_and_the_newest_release_have_the_same_version() -> None:
    [newest, *_] = re.findall(
        r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert service.__version__ == training.__version__ == newest


def test_the_server_says_its_version(server: Server) -> None:
    assert httpx.get(f"{server.url}/v2").json()["version"] == service.__version__
    [line] = re.findall(r"^sightglass_build_info{(.*)} 1", get_metrics(server), re.MULTILINE)
    assert f'version="{service.__version__}"' in line


def get_metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text
