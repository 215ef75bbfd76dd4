"""The BentoML service. BentoML starts the processes and packages them; requests are ours."""

import sys
from typing import Any

import bentoml

SUPERVISOR = "bentoml._internal.utils.circus"
CHECK_SECONDS = 2.0  # between looking for dead workers; BentoML waits ten


class SightglassService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML loads it lazily
    """A BentoML service whose requests reach our application first.

    As one of BentoML's middlewares it would stand behind others. They cost a task and a timer for
    every request, and keep the timer for a minute.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        """Return the application that a worker serves. BentoML calls this before uvicorn starts."""
        # BentoML's parent process imports this module, too, but does not need these.
        from service.server.application import Application
        from service.server.uvicorn_protocol import install_protocol
        from service.settings import read_settings

        settings = read_settings()
        application = Application(super().to_asgi(is_main), settings)
        install_protocol(settings)
        return application


def shorten_worker_checks(supervisor: Any) -> None:
    """Make BentoML's parent look for dead workers more often. There is no setting for it."""

    class WatchfulArbiter(supervisor.Arbiter):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"check_delay": CHECK_SECONDS})

    supervisor.Arbiter = WatchfulArbiter


if SUPERVISOR in sys.modules:  # only in the parent: the import would delay a worker's start
    shorten_worker_checks(sys.modules[SUPERVISOR])


@bentoml.service(name="sightglass", metrics={"enabled": False}, service_class=SightglassService)
class Sightglass:
    """The name under which BentoML starts, builds and ships the service."""
