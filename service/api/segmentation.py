"""`/segment`, and what the calls on images may be asked for only if the model segments."""

from starlette.responses import Response

from service import errors
from service.api.image_body import ImageBody
from service.api.image_receiver import ImageReceiver
from service.api.operations import INFERENCE_ERRORS, PICTURE, Operation
from service.api.options import read_options
from service.api.routing import Endpoint
from service.api.upload import find_model, get_single_image
from service.errors import BadRequest, NotAcceptable
from service.http.negotiation import choose_media_type
from service.http.request import Request
from service.imaging.heatmap import ENCODINGS
from service.imaging.mask import MaskView
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.image_request import ImageRequest
from service.inference.segmentation.segmenter import Segmenter
from service.parameters import PredictOptions, SegmentOptions
from service.repository.model import Model
from service.repository.repository import Repository

PICTURES = tuple(ENCODINGS)
MASK_TYPE = "image/png"
SEGMENT_ERRORS = (*INFERENCE_ERRORS, errors.NotAcceptable)
MAX_NAMED = 20  # models in a sentence


class SegmentEndpoints:
    """`/segment`."""

    def __init__(
        self,
        receiver: ImageReceiver,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
    ) -> None:
        self._receiver = receiver
        self._repository = repository
        self._admission = admission
        self._segmenter = Segmenter(classifier)

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        return [
            Endpoint("POST", "/segment", self.segment, Operation(
                "segment",
                "Give each pixel of one image a class, and return the mask or the picture with it",
                dict.fromkeys(PICTURES, PICTURE), SEGMENT_ERRORS, ImageBody(SegmentOptions),
            )),
        ]  # fmt: skip

    async def segment(self, request: Request) -> Response:
        """`POST /segment`: the mask of one image, or the picture with the mask over it."""
        accept = request.header("accept")
        media_type = choose_picture_type(accept, PICTURES)
        async with self._receiver.receive_single(request) as (form, permit):
            await self._admission.yield_to_backlog()
            image, options = get_single_image(form), read_options(SegmentOptions, form)
            if options.view is MaskView.MASK:
                media_type = choose_picture_type(accept, (MASK_TYPE,))
            model = find_model(self._repository, options.model, request)
            if not model.segments:
                raise BadRequest(
                    f"The model '{model.name}' classifies whole pictures, so it has no mask: "
                    f"{describe_segmenting(self._repository)}"
                )
            content = await self._segmenter.draw(
                ImageRequest(image, model, options, request.timings, permit), media_type
            )
        headers = {"x-model": f"{model.name}/{model.version}", "vary": "Accept"}
        return Response(content, headers=headers, media_type=media_type)


def choose_picture_type(accept: str, offers: tuple[str, ...]) -> str:
    """Return the media type of the picture.

    Raises:
        NotAcceptable: The client accepts none of the offers.
        BadRequest: The header is too long, or a q-value is not a number.
    """
    try:
        return choose_media_type(accept, offers)
    except NotAcceptable as exc:
        raise NotAcceptable(f"{exc.message} The classes in numbers are at /predict.") from None


def check_task(options: PredictOptions, model: Model, repository: Repository) -> None:
    """Check that a model that classifies is asked for nothing that only a mask has.

    Raises:
        BadRequest: It is.
    """
    if model.segments:
        return
    for name in options.MASK_ONLY:
        if getattr(options, name):
            raise BadRequest(
                f"'{name}' is for models that segment, but '{model.name}' classifies whole "
                f"pictures: leave it out, or {describe_segmenting(repository)}"
            )


def describe_segmenting(repository: Repository) -> str:
    """Say which models segment."""
    names = [*dict.fromkeys(model.name for model in repository.loaded() if model.segments)]
    if not names:
        return "add a model that segments, because there is none here."
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"choose a model that segments: {', '.join(names[:MAX_NAMED])}{more}."
