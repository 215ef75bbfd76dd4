"""What can go wrong for a person who pulls or pushes a model."""


class HubError(Exception):
    """A model can't be pulled or pushed; the message is one sentence."""
