"""What the service uses of other packages without their promise. A failure names what has moved."""

import asyncio
import importlib
import inspect
from pathlib import Path
from typing import Any

import bentoml
import pytest
import uvicorn
from prometheus_client import values
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import HTTP_PROTOCOLS, WS_PROTOCOLS
from uvicorn.protocols.http import httptools_impl
from uvicorn.server import ServerState

from service import app, supervisor
from service.server.uvicorn_protocol import BoundedProtocol
from service.telemetry import shared

CALLED = (
    "_should_upgrade",
    "_unset_keepalive_if_required",
    "on_body",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
)
READ = (
    "cycle",
    "expect_100_continue",
    "flow",
    "headers",
    "loop",
    "parser",
    "pipeline",
    "scope",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
    "url",
)
CYCLE = (
    "disconnected",
    "keep_alive",
    "message_event",
    "more_body",
    "on_response",
    "response_complete",
)
STORED = ("_used", "_capacity", "_f", "_m", "_positions", "_init_value")


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


def test_uvicorn_takes_its_default_for_websockets_from_a_dictionary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(WS_PROTOCOLS, "auto", None)
    config = uvicorn.Config(answer_nothing)
    config.load()
    assert config.ws_protocol_class is None, (
        "uvicorn no longer reads WS_PROTOCOLS['auto']: find another way for install_protocol"
    )


def test_bentoml_leaves_the_choice_of_the_protocol_to_uvicorn() -> None:
    worker = inspect.getsource(importlib.import_module("_bentoml_impl.worker.service"))
    assert "uvicorn.Config(" in worker, "BentoML's worker no longer makes the uvicorn.Config here"
    assert "http=" not in worker, "BentoML's worker now chooses a protocol: ours is not used"
    assert "uvicorn.Server(config).run(sockets=" in worker, (
        "BentoML's worker runs another server: install_server has no effect"
    )


def test_uvicorn_asks_two_functions_for_the_ends_of_a_connection() -> None:
    made = inspect.getsource(httptools_impl.HttpToolsProtocol.connection_made)
    assert "get_local_addr(transport)" in made
    assert "get_remote_addr(transport)" in made, (
        "uvicorn asks elsewhere for addresses: install_protocol no longer makes that cheap"
    )


def test_the_protocol_of_uvicorn_has_what_ours_builds_on() -> None:
    async def make() -> BoundedProtocol:
        protocol = BoundedProtocol(uvicorn.Config(answer_nothing), ServerState(), {})
        protocol.on_message_begin()
        return protocol

    protocol = asyncio.run(make())
    missing = [name for name in CALLED + READ if not hasattr(protocol, name)]
    assert not missing, f"uvicorn's HttpToolsProtocol has no {', '.join(missing)} any more"
    cycle = httptools_impl.RequestResponseCycle.__init__.__code__.co_names
    missing = [name for name in CYCLE if name not in cycle]
    assert not missing, f"uvicorn's RequestResponseCycle has no {', '.join(missing)} any more"


def test_bentoml_makes_its_arbiter_from_our_class(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Recorder:
        def __init__(self, *_: object, **options: object) -> None:
            given.update(options)

    module = importlib.import_module(app.SUPERVISOR)
    monkeypatch.setattr(module, "Arbiter", Recorder)
    supervisor.install_arbiter(module)
    module.create_standalone_arbiter([])
    assert given.items() >= supervisor.OPTIONS.items(), (
        "BentoML no longer makes its arbiter from this class, or with these options: dead workers "
        "are found late, and any local process can command the supervisor"
    )
    serving = importlib.import_module("_bentoml_impl.server.serving")
    assert "create_standalone_arbiter" in inspect.getsource(serving.serve_http), (
        "BentoML makes its arbiter elsewhere: ours is not used"
    )


def test_a_worker_of_bentoml_has_the_main_module_that_we_look_for() -> None:
    serving = importlib.import_module("_bentoml_impl.server.serving")
    assert serving._SERVICE_WORKER_SCRIPT == app.WORKER, (
        "BentoML's worker has another main module: service.app takes it for the parent process"
    )


def test_bentoml_asks_this_function_whether_it_may_report_its_use() -> None:
    stats = importlib.import_module("bentoml._internal.utils.analytics.usage_stats")
    assert stats.do_not_track()
    assert "do_not_track()" in inspect.getsource(stats.track), (
        "BentoML asks elsewhere whether it may report: service.app no longer turns that off"
    )


def test_circus_forks_its_workers_in_a_way_that_runs_our_hook() -> None:
    process = inspect.getsource(importlib.import_module("circus.process"))
    assert "preexec_fn=preexec_fn" in process, (
        "circus starts workers without preexec_fn: os.register_at_fork no longer reaches them"
    )


def test_the_files_of_prometheus_client_have_what_ours_builds_on(tmp_path: Path) -> None:
    assert hasattr(values, "MmapedDict"), "prometheus_client.values has no MmapedDict any more"
    file: Any = shared.ReservedDict(str(tmp_path / "counter_1.db"))
    missing = [name for name in STORED if not hasattr(file, name)]
    assert not missing, f"prometheus_client's MmapedDict has no {', '.join(missing)} any more"
    file.write_value("key", 3.0, 0.0)
    assert file.read_value("key") == (3.0, 0.0)
    file.close()
    assert "MmapedDict" in inspect.getsource(values.MultiProcessValue), (
        "prometheus_client no longer keeps its values in MmapedDict: ours is not used"
    )


def test_bentoml_makes_a_service_of_our_class_and_asks_it_for_the_application() -> None:
    assert isinstance(app.Sightglass, app.SightglassService), (
        "bentoml.service no longer uses service_class"
    )
    assert callable(getattr(bentoml.Service, "to_asgi", None)), (
        "bentoml.Service has no to_asgi any more: the application has no way in"
    )


@pytest.mark.parametrize("name", ["simple_response", "is_allowed_origin"])
def test_the_cors_middleware_of_starlette_has_what_ours_calls(name: str) -> None:
    assert callable(getattr(CORSMiddleware, name, None)), f"CORSMiddleware has no {name} any more"
