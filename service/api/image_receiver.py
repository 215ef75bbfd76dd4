"""Receives the bodies with images: how long each kind may be, and what reads it."""

from collections.abc import Callable

from service.api.upload import UploadReception
from service.http.body import Body
from service.http.form import JSON_TYPE, Form, is_raw, read_form
from service.http.request import Request
from service.inference.admission import Admission
from service.settings import Settings

FORM_OVERHEAD_BYTES = 65_536  # boundaries, names and parameters around one image
BASE64_FACTOR = 1.5  # four bytes for three, line breaks, and some escapes

ReadBody = Callable[[Body], Form]


class ImageReceiver:
    """Receives one image with what else its kind of body has, or several images."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_request_bytes = settings.max_request_bytes
        self._admission = admission

    def receive_single(self, request: Request) -> UploadReception[Form]:
        """Receive one image, with what else its kind of body has."""
        content_type = request.header("content-type")
        kind = content_type.lower()
        limit = self._max_upload_bytes
        if kind.startswith(JSON_TYPE):
            limit = int(limit * BASE64_FACTOR) + FORM_OVERHEAD_BYTES
        elif kind.startswith("multipart/"):
            limit += FORM_OVERHEAD_BYTES
        return self._receive(request, content_type, min(limit, self._max_request_bytes))

    def receive_several(
        self, request: Request, read: ReadBody | None = None
    ) -> UploadReception[Form]:
        """Receive several images. `read` reads the body; by default it is a form or JSON."""
        content_type = request.header("content-type")
        return self._receive(request, content_type, self._max_request_bytes, read)

    def _receive(
        self, request: Request, content_type: str, limit: int, read: ReadBody | None = None
    ) -> UploadReception[Form]:
        def read_body(body: Body) -> Form:
            return read_form(content_type, body, request.query, self._max_upload_bytes)

        raw = read is None and is_raw(content_type)
        return UploadReception(request, self._admission, limit, read or read_body, is_raw=raw)
