"""The BentoML service. BentoML starts the processes and packages them; requests are ours."""

import importlib
import sys
from typing import Any

import bentoml
from bentoml._internal.utils.analytics import usage_stats

from service.usage_tracking import turn_off_usage_tracking

SUPERVISOR = "bentoml._internal.utils.circus"
WORKER = "_bentoml_impl.worker.service"  # the main module of a worker


class SightglassService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML loads it lazily
    """A BentoML service whose requests reach our application first.

    As one of BentoML's middlewares it would stand behind others. They cost a task and a timer for
    every request, and keep the timer for a minute.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return the application that a worker serves. BentoML calls this before uvicorn starts."""
        # BentoML's parent process imports this module, too, but does not need these.
        from service.server.application import Application
        from service.server.listening import install_server
        from service.server.uvicorn_protocol import install_protocol
        from service.settings import read_settings
        from service.supervisor import end_with_supervisor

        end_with_supervisor()
        settings = read_settings()
        application = Application(super().to_asgi(is_main), settings)
        install_protocol(settings, application.connections)
        install_server()
        return application


def is_worker() -> bool:
    """Return whether this process is a worker, and not BentoML's parent process or a tool."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == WORKER


turn_off_usage_tracking()
usage_stats.do_not_track.cache_clear()  # `bentoml serve` asked before it imported this module
if not is_worker():  # the import would delay a worker's start
    from service.supervisor import install_arbiter

    install_arbiter(importlib.import_module(SUPERVISOR))


@bentoml.service(name="sightglass", metrics={"enabled": False}, service_class=SightglassService)
class Sightglass:
    """The name under which BentoML starts, builds and ships the service."""
