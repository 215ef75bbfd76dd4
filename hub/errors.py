"""What can go wrong for a person who pulls or pushes a model."""

from service.errors import make_printable

MAX_CHARACTERS = 1000


class HubError(Exception):
    """A model can't be pulled or pushed; the message is one sentence.

    It may quote what a server sent, which must neither fill nor control the terminal.
    """

    def __init__(self, sentence: str) -> None:
        shown = make_printable(sentence[: MAX_CHARACTERS + 1])
        super().__init__(shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}…")
