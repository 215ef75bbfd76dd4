"""The one error a command answers with a sentence instead of a traceback."""


class UserError(Exception):
    """What was wrong and what would be right, in one sentence."""


class CheckError(UserError):
    """The graph is not what it should be; nothing was written."""
