"""The error of the commands."""

from service.settings import ConfigurationError


class CommandError(ConfigurationError):
    """A command can't do what it was asked to do; the message is one sentence."""
