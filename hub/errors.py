"""What can go wrong for a person who pulls or pushes a model."""

MAX_CHARACTERS = 1000


class HubError(Exception):
    """A model can't be pulled or pushed; the message is one sentence.

    It may quote what a server sent, which must not reach a terminal as it is.
    """

    def __init__(self, sentence: str) -> None:
        printable = "".join(char if char.isprintable() else "?" for char in sentence)
        is_long = len(printable) > MAX_CHARACTERS
        super().__init__(printable[:MAX_CHARACTERS] + "…" if is_long else printable)
