"""The one error a command answers with a sentence instead of a traceback."""


class UserError(Exception):
    """What was wrong and what would be right, in one sentence."""
