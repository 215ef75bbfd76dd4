"""The part that all calls with images share: admit the request, read its body, find its model."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

from service.errors import ApiError, BadRequest, PayloadTooLarge
from service.http.body import Body
from service.http.compression import decompress_body
from service.http.form import Form
from service.http.request import DisconnectWatch, Request, describe_byte_limit
from service.inference.admission import Admission, Permit
from service.parameters import MAX_BATCH_IMAGES
from service.repository.model import Model
from service.repository.repository import Repository
from service.schemas import AnswerWarning

INLINE_BYTES = 1 << 15  # a longer body is parsed in a thread
INLINE_RAW_BYTES = 1 << 18  # the same if hardly anything of it is parsed

Parsed = TypeVar("Parsed")


class UploadReception(Generic[Parsed]):
    """Admits one image with the size announced, reads and parses the body, watches the client.

    The permit is held until the block ends. If it ends without an error, its images count as
    answered. (A class, because a generator would cost a few percent of a digit's time.) Nothing
    holds the body afterwards: what `parse` returns takes its place. `is_raw` says that hardly
    anything of the body is parsed.
    """

    def __init__(
        self,
        request: Request,
        admission: Admission,
        limit: int,
        parse: Callable[[Body], Parsed],
        *,
        is_raw: bool,
    ) -> None:
        self._request = request
        self._admission = admission
        self._limit = limit
        self._parse = parse
        self._inline_bytes = INLINE_RAW_BYTES if is_raw else INLINE_BYTES
        self._parsing: Future[Parsed] | None = None

    async def __aenter__(self) -> tuple[Parsed, Permit]:
        """Return the parsed body and the permit.

        Raises:
            PayloadTooLarge: The body is longer than the limit or than the server can ever hold.
            UnsupportedMediaType: The body is compressed in a way that is not supported.
            BadRequest: The body can't be decompressed, or whatever `parse` raises.
            Overloaded: There is no room now, or the body arrives too slowly for others that wait.
            ClientDisconnect: The client closed the connection.
        """
        request, limit = self._request, self._limit
        task = asyncio.current_task()
        assert task
        announced = request.content_length or 0
        if announced > limit:
            raise PayloadTooLarge(describe_byte_limit(limit))
        self._permit = permit = self._admission.admit(
            announced, request.seconds_left(), task.cancel
        )
        request.is_admitted = True
        try:
            body = await request.read_body(limit, permit.add_body)
            permit.mark_body_received()
            request.log_fields["bytes"] = len(body)
            take_time = self._admission.loop_time.take
            if encoding := request.header("content-encoding"):
                body = await decompress_body(body, encoding, limit, permit.add_body, take_time)
            if len(body) <= self._inline_bytes:
                await take_time()
                parsed = self._parse(body)
            else:
                self._parsing = get_parser().submit(self._parse, body)
                del body
                parsed = await asyncio.shield(asyncio.wrap_future(self._parsing))
                self._parsing = None
            self._watch = DisconnectWatch(request)
            self._watch.__enter__()
        except asyncio.CancelledError:
            self._release()
            if permit.is_dropped:
                task.uncancel()
                raise self._admission.make_dropped() from None
            raise
        except BaseException:
            self._release()
            raise
        finally:
            del self._parse
        return parsed, permit

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._watch.__exit__(kind)
            self._permit.answered = kind is None
        finally:
            self._permit.release()

    def _release(self) -> None:
        """Give the room back; of a body that is still being parsed, when that ends."""
        parsing, self._parsing = self._parsing, None
        if parsing:
            self._permit.hold_for(parsing)
        self._permit.release()


@cache
def get_parser() -> ThreadPoolExecutor:
    """Return the thread that parses long bodies. More threads would only delay the event loop."""
    return ThreadPoolExecutor(1, thread_name_prefix="parser")


def add_images(request: Request, permit: Permit, count: int, model: Model) -> None:
    """Extend the permit from one image to the number that the request has.

    Of many images only those that the model takes at once delay other requests.

    Raises:
        PayloadTooLarge: The queue can never hold as many.
        Overloaded: There is no room now.
    """
    request.images = request.log_fields["images"] = count
    permit.add_images(count - 1)
    permit.limit_active_images(model.batcher.rows_per_request)


def find_model(repository: Repository, reference: str | None, request: Request) -> Model:
    """Find the model asked for, and name it in the log line.

    Raises:
        ModelNotFound, NotReady: As `Repository.find` does.
    """
    model = repository.find(reference)
    note_model(request, model)
    return model


def note_model(request: Request, model: Model) -> None:
    """Name a model in the log line."""
    request.log_fields["model"], request.log_fields["version"] = model.name, model.version


def note_warnings(request: Request, warnings: Sequence[AnswerWarning]) -> None:
    """Add the codes of one image's warnings to the log line, each once per request."""
    for warning in warnings:
        codes = request.log_fields.setdefault("warnings", [])
        if warning["code"] not in codes:
            codes.append(warning["code"])


def get_single_image(form: Form) -> bytes:
    """Return the one image of a form.

    Raises:
        BadRequest: There is no image, there are several, or the image is unreadable.
    """
    if not form.images:
        raise BadRequest("There is no image: send one as form field 'image', JSON or raw bytes.")
    if form.is_list or len(form.images) > 1:
        raise BadRequest("Several images were sent: send one, or use the path with '/batch'.")
    if isinstance(form.images[0], ApiError):
        raise form.images[0]
    return form.images[0]


def get_images(form: Form) -> list[bytes | ApiError]:
    """Return the images of a form in the order sent, with an error for each unreadable one.

    Raises:
        BadRequest: There is no image, or there are too many.
    """
    if not 1 <= len(form.images) <= MAX_BATCH_IMAGES:
        raise BadRequest(
            f"A batch must have 1 to {MAX_BATCH_IMAGES} images, got {len(form.images)}: send them "
            "as form fields 'image' or as JSON list 'images'."
        )
    return form.images
