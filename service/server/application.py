"""Everything behind the port, put together: doors, models, queues, and what keeps them going.

The front door stands before BentoML's own application and answers every HTTP request by itself;
BentoML only sees its lifespan.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

from service.api.endpoints import ImageEndpoints
from service.api.prometheus import keep_gauges
from service.api.status import StatusEndpoints
from service.api.v2.endpoints import V2Endpoints
from service.api.web import WebPages
from service.http.request import Receive, Scope, Send
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.repository.repository import Repository
from service.server.router import Door, Route
from service.server.tracing import RequestTracer, open_tracer
from service.settings import Settings
from service.telemetry.log import configure_log, with_fields

ANNOUNCE_POLL_SECONDS = 0.02
WATCH_SECONDS = 1.0
log = logging.getLogger(__name__)


class Application:
    """Everything behind the port, as an ASGI application in front of BentoML's."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._bentoml = app
        self._lifecycle = Lifecycle(settings.drain_seconds)
        self._repository = Repository(settings)
        self._repository.sandbox.start()
        self._admission = Admission(settings)
        self._tracer = open_tracer()
        self.door = make_door(
            settings, self._lifecycle, self._repository, self._admission, self._tracer
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live as long as the server does."""
        if scope["type"] == "http":
            await self.door(scope, receive, send)
        elif scope["type"] == "lifespan":
            async with self._serve():
                await self._bentoml(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    @contextlib.asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        """Load and watch the models while the server runs; it answers 503 until they are there."""
        configure_log()
        with self._lifecycle.catch_signals():
            tasks = [
                asyncio.create_task(self._repository.watch()),
                asyncio.create_task(self._announce()),
                asyncio.create_task(keep_gauges(self._admission)),
                asyncio.create_task(self._watch_runs()),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                if self._tracer:
                    self._tracer.close()

    async def _watch_runs(self) -> None:
        """A device that hangs must not keep the worker in its place."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._repository.check_hung_runs()

    async def _announce(self) -> None:
        """Say in the log when the default model can answer."""
        while self._repository.reasons_not_ready():
            await asyncio.sleep(ANNOUNCE_POLL_SECONDS)
        gc.collect()
        gc.freeze()  # what is loaded stays; no later collection need look at it
        model = self._repository.find(None)
        log.info("ready", extra=with_fields(default_model=model.name, provider=model.provider))


def make_door(
    settings: Settings,
    lifecycle: Lifecycle,
    repository: Repository,
    admission: Admission,
    tracer: RequestTracer | None = None,
) -> Door:
    """The data plane, put together."""
    classifier = Classifier(settings, admission)
    calls = ImageEndpoints(settings, repository, admission, classifier)
    status = StatusEndpoints(repository, lifecycle, admission)
    protocol = V2Endpoints(settings, repository, admission, classifier, status)
    pages = WebPages(needs_key=bool(settings.api_keys))
    return Door(
        settings,
        lifecycle,
        admission,
        [
            Route("/predict", {"POST": calls.predict}, needs_room=True),
            Route("/predict/batch", {"POST": calls.predict_batch}, needs_room=True),
            Route("/gradcam", {"POST": calls.gradcam}, needs_room=True),
            Route("/gradcam/batch", {"POST": calls.gradcam_batch}, needs_room=True),
            Route("/models", {"GET": status.models}),
            Route("/models/{name}", {"GET": status.model}),
            Route("/models/{name}/attention", {"GET": status.attention}),
            Route("/livez", {"GET": status.livez}),
            Route("/readyz", {"GET": status.readyz}),
            Route("/metrics", {"GET": status.metrics}),
            Route("/v2", {"GET": protocol.server}),
            Route("/v2/health/live", {"GET": protocol.live}),
            Route("/v2/health/ready", {"GET": protocol.ready}),
            Route("/v2/repository/index", {"POST": protocol.index}),
            *(
                Route(
                    f"/v2/models/{{name}}{version}{call}",
                    {method: handler},
                    needs_room=handler == protocol.infer,
                )
                for version in ("", "/versions/{version}")
                for call, method, handler in (
                    ("", "GET", protocol.model),
                    ("/ready", "GET", protocol.model_ready),
                    ("/config", "GET", protocol.config),
                    ("/infer", "POST", protocol.infer),
                )
            ),
            Route("/", {"GET": pages.index}),
            Route("/docs", {"GET": pages.docs}),
            Route("/page/{name}", {"GET": pages.part}),
            Route("/openapi.json", {"GET": pages.openapi}),
        ],
        tracer,
    )
