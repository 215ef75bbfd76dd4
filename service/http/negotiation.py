"""Which media type to answer with, by the `Accept` header (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

from service.errors import BadRequest, NotAcceptable


def choose_media_type(accept: str, offers: Sequence[str]) -> str:
    """The offer the client likes best; of equals, one it names, then the first offered.

    Raises:
        NotAcceptable: it wants none of them.
        BadRequest: a q-value that is no number.
    """
    if not accept or accept == "*/*":
        return offers[0]
    wishes = [_read_wish(part) for part in accept.split(",") if part.strip()]
    best, best_rank = None, (0.0, 0)
    for offer in offers:
        fitting = [(precision, q) for wish, q in wishes if (precision := _match(wish, offer))]
        if not fitting:
            continue
        precision, q = max(fitting)  # the most precise wish decides
        if q > 0 and (q, precision) > best_rank:
            best, best_rank = offer, (q, precision)
    if best is None:
        raise NotAcceptable(f"Accept '{accept}' can't be served: ask for {' or '.join(offers)}.")
    return best


def _read_wish(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return media_type.lower(), min(max(float(value), 0.0), 1.0)
            except ValueError:
                raise BadRequest(f"Accept has q={value}, which is no number of 0..1.") from None
    return media_type.lower(), 1.0


def _match(wish: str, offer: str) -> int:
    """How precisely a wish names an offer: 3 by name, 2 by kind, 1 by anything, 0 not."""
    if wish == offer:
        return 3
    if wish == "*/*":
        return 1
    return 2 if wish == offer.partition("/")[0] + "/*" else 0
