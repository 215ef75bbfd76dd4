"""One image of a request: what is asked, and by when. Knows nothing about how it is answered."""

from math import prod
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

from service.errors import Timeout
from service.imaging.decoding import Picture
from service.inference.admission import Permit
from service.parameters import ExplainOptions, ModelOptions
from service.repository.model import Model
from service.telemetry.timings import Timings

SECONDS_PER_PIXEL = 1.5e-7  # of drawing and encoding as WebP or PNG, on one core

Options = TypeVar("Options", bound=ModelOptions, covariant=True)


class ImageRequest(NamedTuple, Generic[Options]):
    """One image, the model for it and what is asked."""

    content: bytes
    model: Model
    options: Options
    timings: Timings
    permit: Permit


ExplainRequest = ImageRequest[ExplainOptions]


def count_pixels(picture: Picture, maps: int = 1) -> int:
    """The pixels of the model's input for each map."""
    pixels: int = prod(picture.pixels.shape[:2])
    return maps * pixels


def check_time(permit: Permit, pixels: int) -> None:
    """Check that there is time to draw so many pixels: a thread that draws can't be stopped.

    Raises:
        Timeout: drawing would go on after the deadline.
    """
    if perf_counter() + SECONDS_PER_PIXEL * pixels > permit.deadline:
        raise Timeout(
            f"There is no time left to draw {pixels} pixels before the deadline: "
            "set 'size' to a smaller value, or send the image faster."
        )
