"""The BentoML service: processes, lifecycle and packaging are BentoML's, the data plane is ours."""

import sys
from typing import Any

import bentoml

SUPERVISOR = "bentoml._internal.utils.circus"
CHECK_SECONDS = 2.0  # until a dead worker is noticed, at most; BentoML takes ten


class SightglassService(bentoml.Service[Any]):  # type: ignore[misc]  # BentoML loads it lazily
    """A BentoML service that serves the data plane, with BentoML's own application behind it.

    As one of BentoML's middlewares the data plane would stand behind others, which cost a task and
    a timer, kept for a minute, for every request.
    """

    def to_asgi(self, is_main: bool = True) -> Any:
        """What BentoML's worker serves; it asks before it makes its server."""
        # BentoML's parent process imports this module as well, but has no use for these.
        from service.server.application import Application
        from service.server.uvicorn_protocol import install_protocol
        from service.settings import read_settings

        settings = read_settings()
        plane = Application(super().to_asgi(is_main), settings)
        install_protocol(settings, plane.door.turn_away)
        return plane


def shorten_worker_checks(supervisor: Any) -> None:
    """Have BentoML's parent look for dead workers more often: there is no setting for it."""

    class WatchfulArbiter(supervisor.Arbiter):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"check_delay": CHECK_SECONDS})

    supervisor.Arbiter = WatchfulArbiter


if SUPERVISOR in sys.modules:  # in the parent alone: importing it would delay a worker's start
    shorten_worker_checks(sys.modules[SUPERVISOR])


@bentoml.service(name="sightglass", metrics={"enabled": False}, service_class=SightglassService)
class Sightglass:
    """The name under which BentoML starts, builds and ships the service."""
