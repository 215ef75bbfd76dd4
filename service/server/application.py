"""The whole application: endpoints, models and admission, and the tasks that keep them running.

It stands in front of BentoML's own application and answers every request itself. BentoML's
application only takes part in the lifespan.
"""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.endpoints import ImageEndpoints
from service.api.image_receiver import ImageReceiver
from service.api.prometheus import keep_gauges
from service.api.routing import Endpoint
from service.api.segmentation import SegmentEndpoints
from service.api.status import StatusEndpoints
from service.api.v1.endpoints import V1Endpoints
from service.api.v2.endpoints import V2Endpoints
from service.api.web import WebPages
from service.heartbeat import beat
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.repository.memory import keep_little_memory
from service.repository.repository import Repository
from service.server.access import Cors
from service.server.connections import Connections
from service.server.dispatcher import Dispatcher
from service.server.otel.recorder import open_recorder
from service.settings import Settings, describe_unknown_settings
from service.telemetry.log import configure_log, flush_log, with_fields
from service.telemetry.metrics import DROPPED_LINES

if TYPE_CHECKING:
    from service.server.grpc.listener import GrpcListener

ANNOUNCE_POLL_SECONDS = 0.02
WATCH_SECONDS = 1.0
# A full collection stops the loop for as long as there are many objects: 0.1 s with thousands of
# connections. Nothing here waits for one, so they are rare.
COLLECTIONS = (700, 10, 1000)
log = logging.getLogger(__name__)


class Application:
    """An ASGI application in front of BentoML's."""

    def __init__(self, bentoml_app: ASGIApp, settings: Settings) -> None:
        self._bentoml_app = bentoml_app
        keep_little_memory()
        self._lifecycle = Lifecycle(settings.drain_seconds)
        self._repository = Repository(settings)
        self._repository.sandbox.start()
        self._admission = Admission(settings)
        classifier = Classifier(settings, self._admission)
        classifier.decoder.start_processes()
        self._recorder = open_recorder()  # it starts threads, after which no process is forked
        endpoints = make_endpoints(
            settings, self._lifecycle, self._repository, self._admission, classifier
        )
        dispatcher = Dispatcher(
            settings, self._lifecycle, endpoints, self._admission, self._recorder
        )
        self.connections = Connections(settings, self._admission.memory.is_short_of_room)
        self._grpc = self._open_grpc(settings, classifier) if settings.grpc_port else None
        origins = settings.cors_origins
        self._http_app: ASGIApp = Cors(dispatcher, origins) if origins else dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run from the server's start to its end."""
        if scope["type"] == "http":
            await self._http_app(scope, receive, send)
        else:
            async with self._serve():
                await self._bentoml_app(scope, partial(self._receive_event, receive), send)

    @contextlib.asynccontextmanager
    async def _serve(self) -> AsyncIterator[None]:
        """Load and watch the models. Until they are loaded, requests are answered with 503."""
        gc.set_threshold(*COLLECTIONS)
        configure_log(DROPPED_LINES.inc)
        for sentence in describe_unknown_settings():
            log.warning("unknown setting", extra=with_fields(reason=sentence))
        if self._grpc:
            await self._grpc.start()
        with self._lifecycle.catch_signals():
            tasks = [
                asyncio.create_task(self._repository.watch()),
                asyncio.create_task(self._announce()),
                asyncio.create_task(keep_gauges(self._admission)),
                asyncio.create_task(self._watch_runs()),
                asyncio.create_task(beat()),
                asyncio.create_task(self.connections.watch()),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                if self._recorder:
                    self._recorder.close()
                flush_log()

    async def _receive_event(self, receive: Receive) -> Message:
        """Receive the next event of the lifespan. Before its end, the calls over gRPC end."""
        event = await receive()
        if self._grpc and event["type"] == "lifespan.shutdown":
            await self._grpc.stop()
        return event

    def _open_grpc(self, settings: Settings, classifier: Classifier) -> "GrpcListener":
        """Return what answers gRPC. Its packages are needed only here."""
        from service.api.grpc.endpoints import GrpcEndpoints
        from service.server.grpc.listener import GrpcListener

        status = StatusEndpoints(self._repository, self._lifecycle, self._admission, classifier)
        endpoints = GrpcEndpoints(
            settings, self._repository, self._admission, classifier, status
        ).endpoints()
        dispatcher = Dispatcher(
            settings, self._lifecycle, endpoints, self._admission, self._recorder
        )
        return GrpcListener(
            settings, dispatcher, self._lifecycle, self._admission, self.connections
        )

    async def _watch_runs(self) -> None:
        """Look for runs on a device that hangs: the worker must not hang with it."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._repository.check_hung_runs()

    async def _announce(self) -> None:
        """Write a log line when the default model is ready."""
        while self._repository.reasons_not_ready():
            await asyncio.sleep(ANNOUNCE_POLL_SECONDS)
        model = self._repository.find(None)
        log.info("ready", extra=with_fields(default_model=model.name, provider=model.provider))


def make_endpoints(
    settings: Settings,
    lifecycle: Lifecycle,
    repository: Repository,
    admission: Admission,
    classifier: Classifier,
) -> list[Endpoint]:
    """Make the route table."""
    receiver = ImageReceiver(settings, admission)
    images = ImageEndpoints(receiver, repository, admission, classifier)
    segmentation = SegmentEndpoints(receiver, repository, admission, classifier)
    status = StatusEndpoints(repository, lifecycle, admission, classifier)
    v1 = V1Endpoints(repository, images, settings.max_upload_bytes)
    v2 = V2Endpoints(settings, repository, admission, classifier, status)
    parts = (images, segmentation, v1, v2, status)
    endpoints = [endpoint for part in parts for endpoint in part.endpoints()]
    pages = WebPages(endpoints, bool(settings.api_keys), settings.frame_ancestors)
    return endpoints + pages.endpoints()
