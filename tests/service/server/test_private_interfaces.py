"""What the service uses of other packages without their promise. A failure names what has moved."""

import asyncio
import importlib
import inspect
from pathlib import Path
from typing import Any

import bentoml
import pytest
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState

from service import app
from service.api.web import SWAGGER_DIR, SWAGGER_FILES
from service.server.uvicorn_protocol import BoundedProtocol

CALLED = (
    "_unset_keepalive_if_required",
    "send_400_response",
    "on_message_begin",
    "on_headers_complete",
)
READ = ("cycle", "loop", "transport")


async def answer_nothing(scope: object, receive: object, send: object) -> None:
    """Stand in for an application."""


def test_uvicorn_takes_its_default_protocol_from_a_dictionary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", f"{BoundedProtocol.__module__}:BoundedProtocol")
    config = uvicorn.Config(answer_nothing)
    config.load()
    assert config.http_protocol_class is BoundedProtocol, (
        "uvicorn no longer reads HTTP_PROTOCOLS['auto']: find another way for install_protocol"
    )


def test_bentoml_leaves_the_choice_of_the_protocol_to_uvicorn() -> None:
    worker = inspect.getsource(importlib.import_module("_bentoml_impl.worker.service"))
    assert "uvicorn.Config(" in worker, "BentoML's worker no longer makes the uvicorn.Config here"
    assert "http=" not in worker, "BentoML's worker now chooses a protocol: ours is not used"


def test_the_protocol_of_uvicorn_has_what_ours_builds_on() -> None:
    async def make() -> BoundedProtocol:
        return BoundedProtocol(uvicorn.Config(answer_nothing), ServerState(), {})

    protocol = asyncio.run(make())
    missing = [name for name in CALLED + READ if not hasattr(protocol, name)]
    assert not missing, f"uvicorn's HttpToolsProtocol has no {', '.join(missing)} any more"
    cycle = httptools_impl.RequestResponseCycle.__init__.__code__.co_names
    assert "response_complete" in cycle, "uvicorn's cycle has no response_complete any more"


def test_bentoml_looks_for_dead_workers_as_often_as_we_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    class Recorder:
        def __init__(self, *_: object, **options: object) -> None:
            given.update(options)

    supervisor = importlib.import_module(app.SUPERVISOR)
    monkeypatch.setattr(supervisor, "Arbiter", Recorder)
    app.shorten_worker_checks(supervisor)
    supervisor.create_standalone_arbiter([])
    assert given["check_delay"] == app.CHECK_SECONDS, (
        "BentoML no longer makes its arbiter from this class: dead workers are found late"
    )


def test_bentoml_loads_its_supervisor_in_the_parent_process() -> None:
    serving = importlib.import_module("_bentoml_impl.server.serving")
    assert serving.Server.__module__ == app.SUPERVISOR, (
        "BentoML's supervisor has another name: service.app no longer finds it in sys.modules"
    )


def test_bentoml_makes_a_service_of_our_class_and_asks_it_for_the_application() -> None:
    assert isinstance(app.Sightglass, app.SightglassService), (
        "bentoml.service no longer uses service_class"
    )
    assert callable(getattr(bentoml.Service, "to_asgi", None)), (
        "bentoml.Service has no to_asgi any more: the application has no way in"
    )


@pytest.mark.parametrize("name", SWAGGER_FILES)
def test_bentoml_brings_the_files_of_the_interactive_docs(name: str) -> None:
    assert Path(SWAGGER_DIR / name).is_file(), f"BentoML no longer has {name} in {SWAGGER_DIR}"


@pytest.mark.parametrize("name", ["simple_response", "is_allowed_origin"])
def test_the_cors_middleware_of_starlette_has_what_ours_calls(name: str) -> None:
    assert callable(getattr(CORSMiddleware, name, None)), f"CORSMiddleware has no {name} any more"
