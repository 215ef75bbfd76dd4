"""The errors that a command reports as one sentence instead of a traceback."""


class UserError(Exception):
    """A mistake of the user: the message says what is wrong and what is accepted."""


class CheckError(UserError):
    """A check of an exported graph failed. No file was written."""
