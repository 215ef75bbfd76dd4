"""Content negotiation: choose the media type by the `Accept` header (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

from service.errors import BadRequest, NotAcceptable, excerpt

MAX_CHARACTERS = 2048  # in the header


def choose_media_type(accept: str, offers: Sequence[str]) -> str:
    """Return the offer with the highest q-value. Break ties by precision, then by our order.

    Raises:
        NotAcceptable: The client accepts none of the offers.
        BadRequest: The header is too long, or a q-value is not a number.
    """
    if not accept or accept == "*/*":
        return offers[0]
    if len(accept) > MAX_CHARACTERS:
        raise BadRequest(
            f"Accept has {len(accept)} characters, but at most {MAX_CHARACTERS} are accepted: "
            f"name fewer types, such as {offers[0]}."
        )
    ranges = [_read_range(part) for part in accept.split(",") if part.strip()]
    best, best_rank = None, (0.0, 0)
    for offer in offers:
        matches = [(precision, q) for name, q in ranges if (precision := _match(name, offer))]
        if not matches:
            continue
        precision, q = max(matches)  # the most precise range decides
        if q > 0 and (q, precision) > best_rank:
            best, best_rank = offer, (q, precision)
    if best is None:
        raise NotAcceptable(
            f"No response matches Accept '{excerpt(accept)}': accept {' or '.join(offers)}."
        )
    return best


def _read_range(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return media_type.lower(), min(max(float(value), 0.0), 1.0)
            except ValueError:
                raise BadRequest(
                    f"A q-value in Accept must be a number from 0 to 1, got '{excerpt(value)}'."
                ) from None
    return media_type.lower(), 1.0


def _match(media_range: str, offer: str) -> int:
    """Rank how precisely a range matches an offer: 3 exactly, 2 by type, 1 by `*/*`, 0 not."""
    if media_range == offer:
        return 3
    if media_range == "*/*":
        return 1
    return 2 if media_range == offer.partition("/")[0] + "/*" else 0
