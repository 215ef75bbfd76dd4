"""The two clients: they send what a flow yields, over httpx. What is sent is in `flows`."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Self, Unpack

import httpx

from client import flows
from client.answers import Answer, Heatmap, Mask
from client.errors import SightglassError
from client.flows import Flow, Outcome, Request, Result, Wait
from client.options import ExplainOptions, PredictOptions, SegmentOptions
from client.pictures import Picture
from client.responses import CODINGS, FAULTS, ReplyReader, translate

TIMEOUT = 30.0  # seconds for one request; the service's own limit is 10 by default
MAX_WAIT = 60.0  # seconds that a call waits for room in all
MAX_ANSWER_BYTES = 256 << 20  # a worker holds no more for all its requests by default


class Client:
    """Calls the service. Threads may share it.

    If the service is overloaded or loads its models, a call waits as long as the service asks and
    tries again, but not longer than `max_wait` seconds in all. An answer of more than
    `max_answer_bytes` is not read to its end.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        max_wait: float = MAX_WAIT,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.max_wait = max_wait
        self._max_answer_bytes = max_answer_bytes
        self._http = httpx.Client(
            base_url=url, headers=make_headers(api_key), timeout=timeout, transport=transport
        )

    def predict(self, picture: Picture, **options: Unpack[PredictOptions]) -> Answer:
        """Return the most probable labels of a picture. Raises `SightglassError`."""
        return self._run(flows.ask_one("/predict", picture, options, self.max_wait))

    def predict_many(
        self, pictures: Iterable[Picture], **options: Unpack[PredictOptions]
    ) -> list[Answer | SightglassError]:
        """Return an answer for each picture, in order, or the exception of one with a fault."""
        return self._run(flows.ask_many("/predict/batch", pictures, options, self.max_wait))

    def explain(self, picture: Picture, **options: Unpack[ExplainOptions]) -> Answer:
        """Return labels, and where the evidence for the target is. Raises `SightglassError`."""
        return self._run(flows.ask_one("/gradcam", picture, options, self.max_wait))

    def explain_many(
        self, pictures: Iterable[Picture], **options: Unpack[ExplainOptions]
    ) -> list[Answer | SightglassError]:
        """Return an explanation for each picture, in order, or the exception of one."""
        return self._run(flows.ask_many("/gradcam/batch", pictures, options, self.max_wait))

    def draw(
        self, picture: Picture, media_type: str = "image/png", **options: Unpack[ExplainOptions]
    ) -> Heatmap:
        """Return the picture with its heatmap, encoded. Raises `SightglassError`."""
        return self._run(flows.ask_heatmap(picture, media_type, options, self.max_wait))

    def segment(
        self, picture: Picture, media_type: str = "image/png", **options: Unpack[SegmentOptions]
    ) -> Mask:
        """Return the class of each pixel as a drawn mask. Raises `SightglassError`."""
        return self._run(flows.ask_mask(picture, media_type, options, self.max_wait))

    def list_models(self) -> list[dict[str, Any]]:
        """Return each model with its versions, as `GET /models` does. Raises `SightglassError`."""
        return self._run(flows.ask_models(self.max_wait))

    def is_ready(self) -> bool:
        """Return whether the service can be reached and can answer now."""
        return self._run(flows.ask_ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[Result]) -> Result:
        outcome: Outcome = None
        while True:
            step = advance(flow, outcome)
            if isinstance(step, Done):
                return step.result
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                outcome = None
                continue
            outcome = self._send(step)

    def _send(self, request: Request) -> Outcome:
        try:
            with self._http.stream(**make_arguments(request)) as response:
                answer = ReplyReader(response, self._max_answer_bytes)
                for piece in response.iter_bytes():
                    answer.add(piece)
                return answer.finish()
        except FAULTS as exc:
            return translate(exc)


class AsyncClient:
    """Calls the service from asyncio; otherwise as `Client`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        max_wait: float = MAX_WAIT,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.max_wait = max_wait
        self._max_answer_bytes = max_answer_bytes
        self._http = httpx.AsyncClient(
            base_url=url, headers=make_headers(api_key), timeout=timeout, transport=transport
        )

    async def predict(self, picture: Picture, **options: Unpack[PredictOptions]) -> Answer:
        """Return the most probable labels of a picture. Raises `SightglassError`."""
        return await self._run(flows.ask_one("/predict", picture, options, self.max_wait))

    async def predict_many(
        self, pictures: Iterable[Picture], **options: Unpack[PredictOptions]
    ) -> list[Answer | SightglassError]:
        """Return an answer for each picture, in order, or the exception of one with a fault."""
        flow = flows.ask_many("/predict/batch", pictures, options, self.max_wait)
        return await self._run(flow)

    async def explain(self, picture: Picture, **options: Unpack[ExplainOptions]) -> Answer:
        """Return labels, and where the evidence for the target is. Raises `SightglassError`."""
        return await self._run(flows.ask_one("/gradcam", picture, options, self.max_wait))

    async def explain_many(
        self, pictures: Iterable[Picture], **options: Unpack[ExplainOptions]
    ) -> list[Answer | SightglassError]:
        """Return an explanation for each picture, in order, or the exception of one."""
        flow = flows.ask_many("/gradcam/batch", pictures, options, self.max_wait)
        return await self._run(flow)

    async def draw(
        self, picture: Picture, media_type: str = "image/png", **options: Unpack[ExplainOptions]
    ) -> Heatmap:
        """Return the picture with its heatmap, encoded. Raises `SightglassError`."""
        return await self._run(flows.ask_heatmap(picture, media_type, options, self.max_wait))

    async def segment(
        self, picture: Picture, media_type: str = "image/png", **options: Unpack[SegmentOptions]
    ) -> Mask:
        """Return the class of each pixel as a drawn mask. Raises `SightglassError`."""
        return await self._run(flows.ask_mask(picture, media_type, options, self.max_wait))

    async def list_models(self) -> list[dict[str, Any]]:
        """Return each model with its versions, as `GET /models` does. Raises `SightglassError`."""
        return await self._run(flows.ask_models(self.max_wait))

    async def is_ready(self) -> bool:
        """Return whether the service can be reached and can answer now."""
        return await self._run(flows.ask_ready())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[Result]) -> Result:
        outcome: Outcome = None
        while True:
            # A thread, because a step may read and encode pictures.
            step = await asyncio.to_thread(advance, flow, outcome)
            if isinstance(step, Done):
                return step.result
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                outcome = None
                continue
            outcome = await self._send(step)

    async def _send(self, request: Request) -> Outcome:
        try:
            async with self._http.stream(**make_arguments(request)) as response:
                answer = ReplyReader(response, self._max_answer_bytes)
                async for piece in response.aiter_bytes():
                    answer.add(piece)
                return answer.finish()
        except FAULTS as exc:
            return translate(exc)


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The end of a flow. `StopIteration` can't leave a thread."""

    result: Result


def advance(flow: Flow[Result], outcome: Outcome) -> Request | Wait | Done[Result]:
    """Let a flow take the outcome of its last step; return the next step."""
    try:
        return flow.send(outcome)
    except StopIteration as end:
        return Done(end.value)


def make_headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of all requests."""
    headers = {"accept-encoding": ", ".join(CODINGS)}
    return headers if api_key is None else headers | {"authorization": f"Bearer {api_key}"}


def make_arguments(request: Request) -> dict[str, Any]:
    """Return what httpx takes of a request."""
    arguments: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "headers": {"accept": request.accept},
    }
    if request.pictures:
        arguments["files"] = [("image", ("picture", content)) for content in request.pictures]
        arguments["data"] = request.fields
    return arguments
