"""The calls on images: predict, explain, and both on several images at once.

A request is given room, its form is read and checked, and what comes back is put into a response.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic_core import to_json

from service.api.options import read_options
from service.errors import ApiError, BadRequest, InternalError, PayloadTooLarge
from service.http.form import JSON_TYPE, Form, read_form
from service.http.negotiation import choose_media_type
from service.http.request import DisconnectWatch, Request, Response, describe_byte_limit
from service.imaging.heatmap import ENCODINGS
from service.inference.admission import Admission, Permit
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, check_labels
from service.inference.results import make_result
from service.repository.repository import Model, Repository
from service.schemas import MAX_BATCH_IMAGES, ErrorAnswer, ExplainOptions, PredictOptions, Result
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.timings import Timings

FORM_OVERHEAD_BYTES = 65_536  # boundaries, names and parameters around one image
PICTURES = tuple(ENCODINGS)

Options = TypeVar("Options", bound=PredictOptions)
ClassifyOne = Callable[[bytes, Model, Options, Timings], Awaitable[Result]]
log = logging.getLogger(__name__)


class ImageEndpoints:
    """Each call is a function of a request."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
    ) -> None:
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_request_bytes = settings.max_request_bytes
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._explainer = Explainer(classifier)

    async def predict(self, request: Request) -> Response:
        """`POST /predict`: the most probable labels of one image."""
        choose_media_type(request.header(b"accept"), [JSON_TYPE])
        limit = self._limit_single(request)
        with admit(request, self._admission, limit) as permit:
            form = await self._read_form(request, permit, limit)
            content = get_single_image(form)
            options = read_options(PredictOptions, form)
            model = self._find_model(options, request)
            with DisconnectWatch(request):
                result = await self._predict_one(content, model, options, request.timings)
            permit.answered = True
        return answer_json({"model": model.name, "version": model.version, **result})

    async def gradcam(self, request: Request) -> Response:
        """`POST /gradcam`: why the model says so, as a picture or in numbers."""
        media_type = choose_media_type(request.header(b"accept"), [*PICTURES, JSON_TYPE])
        limit = self._limit_single(request)
        with admit(request, self._admission, limit) as permit:
            form = await self._read_form(request, permit, limit)
            content = get_single_image(form)
            options = read_options(ExplainOptions, form)
            if media_type != JSON_TYPE:
                check_single_target(options)
            model = self._find_model(options, request)
            with DisconnectWatch(request):
                response = await self._explain(content, model, options, media_type, request)
            permit.answered = True
        response.headers["vary"] = "Accept"
        return response

    async def predict_batch(self, request: Request) -> Response:
        """`POST /predict/batch`: several images, each on its own."""
        return await self._answer_batch(request, PredictOptions, self._predict_one)

    async def gradcam_batch(self, request: Request) -> Response:
        """`POST /gradcam/batch`: several images with their explanations."""
        return await self._answer_batch(request, ExplainOptions, self._explainer.explain)

    async def _predict_one(
        self, content: bytes, model: Model, options: PredictOptions, timings: Timings
    ) -> Result:
        classification = await self._classifier.classify(content, model, (), timings)
        return make_result(classification, model, options.top_k)

    async def _explain(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        media_type: str,
        request: Request,
    ) -> Response:
        timings = request.timings
        if media_type == JSON_TYPE:
            result = await self._explainer.explain(content, model, options, timings)
            return answer_json({"model": model.name, "version": model.version, **result})
        rendering = await self._explainer.draw(content, model, options, media_type, timings)
        headers = {
            "x-model": f"{model.name}/{model.version}",
            "x-predicted-label": quote(rendering.predicted["label"], safe=""),
            "x-target-label": quote(rendering.target["label"], safe=""),
            "x-target-probability": f"{rendering.target['probability']:.6g}",
        }
        if rendering.verification:
            headers["x-verification"] = to_json(rendering.verification).decode()
        return Response(rendering.content, media_type, headers=headers)

    async def _answer_batch(
        self, request: Request, kind: type[Options], classify_one: ClassifyOne[Options]
    ) -> Response:
        choose_media_type(request.header(b"accept"), [JSON_TYPE])
        limit = self._max_request_bytes
        with admit(request, self._admission, limit) as permit:
            form = await self._read_form(request, permit, limit)
            contents = get_images(form)
            request.images = request.log_fields["images"] = len(contents)
            options = read_options(kind, form)
            model = self._find_model(options, request)
            if isinstance(options, ExplainOptions):
                check_labels(options, model)  # the request's fault, not one image's
            permit.add_images(len(contents) - 1)

            async def answer_one(content: bytes | BadRequest) -> Result | ErrorAnswer:
                try:
                    if isinstance(content, BadRequest):
                        raise content
                    return await classify_one(content, model, options, request.timings)
                except ApiError as refusal:
                    if isinstance(refusal, InternalError):
                        log.exception("image failed", extra=with_fields(request_id=request.id))
                    return {"error": refusal.body(request.id)}

            with DisconnectWatch(request):
                results = await asyncio.gather(*map(answer_one, contents))
            permit.answered = True
        return answer_json({"model": model.name, "version": model.version, "results": results})

    async def _read_form(self, request: Request, permit: Permit, limit: int) -> Form:
        body = await read_body(request, permit, limit)
        form = read_form(request.header(b"content-type"), body, request.query)
        await self._admission.yield_to_backlog()
        return form

    def _limit_single(self, request: Request) -> int:
        """The bytes of a body that carries one image: base64 makes four of three."""
        content_type = request.header(b"content-type").lower()
        limit = self._max_upload_bytes
        if content_type.startswith(JSON_TYPE):
            limit = limit * 4 // 3 + FORM_OVERHEAD_BYTES
        elif content_type.startswith("multipart/"):
            limit += FORM_OVERHEAD_BYTES
        return min(limit, self._max_request_bytes)

    def _find_model(self, options: PredictOptions, request: Request) -> Model:
        return find_model(self._repository, options.model, request)


def admit(request: Request, admission: Admission, limit: int) -> Permit:
    """Room for one image and the body announced, before a byte of it is read.

    Raises:
        PayloadTooLarge, Overloaded: there is none.
    """
    announced = request.content_length or 0
    if announced > limit:
        raise PayloadTooLarge(describe_byte_limit(limit))
    return admission.admit(announced, request.seconds_left())


async def read_body(request: Request, permit: Permit, limit: int) -> bytes:
    """The whole body; from now on the request's images are at work."""
    body = await request.read_body(limit, permit.add_body)
    permit.mark_body_received()
    request.log_fields["bytes"] = len(body)
    return body


def find_model(repository: Repository, reference: str | None, request: Request) -> Model:
    """The model asked for, which the log line then names.

    Raises:
        ModelNotFound, NotReady: as `Repository.find` does.
    """
    model = repository.find(reference)
    request.log_fields["model"], request.log_fields["version"] = model.name, model.version
    return model


def get_single_image(form: Form) -> bytes:
    """The one image of a form.

    Raises:
        BadRequest: there is none, more than one, or it is unreadable.
    """
    if not form.images:
        raise BadRequest(
            "There is no image: send it as form field 'image', as JSON or as raw body."
        )
    if form.several or len(form.images) > 1:
        raise BadRequest("Several images were sent: send one, or all to the call's '/batch'.")
    if isinstance(form.images[0], BadRequest):
        raise form.images[0]
    return form.images[0]


def get_images(form: Form) -> list[bytes | BadRequest]:
    """The images of a form, in the order sent; what is unreadable is its own fault.

    Raises:
        BadRequest: there is none, or too many.
    """
    if not 1 <= len(form.images) <= MAX_BATCH_IMAGES:
        raise BadRequest(
            f"{len(form.images)} images were sent: send 1 to {MAX_BATCH_IMAGES}, as form fields "
            "'image' or as JSON 'images'."
        )
    return form.images


def check_single_target(options: ExplainOptions) -> None:
    """A picture shows one target.

    Raises:
        BadRequest: more than one was asked for.
    """
    if len(options.target) > 1 or (options.target_top or 1) > 1:
        raise BadRequest(
            "A picture shows one target: ask for one, or for JSON with 'Accept: application/json'."
        )


def answer_json(content: Any, status: int = 200) -> Response:
    """`content` as a response."""
    return Response(to_json(content), JSON_TYPE, status)
