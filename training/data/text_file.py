"""Reads a text file that a person has written, whichever editor saved it.

Knows nothing of what the text means.
"""

import codecs
from pathlib import Path

from training.errors import UserError

UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # Excel's "Unicode Text" has one


def read_text(path: Path, kind: str) -> str:
    r"""The text without a byte-order mark, each line ending in "\n".

    The encoding is UTF-8, or UTF-16 if the file begins with the byte-order mark of UTF-16.

    Raises:
        UserError: the file cannot be read, or has another encoding; `kind` says what it should be.
    """
    try:
        content = path.read_bytes()
        encoding = "utf-16" if content.startswith(UTF_16_MARKS) else "utf-8-sig"
        text = content.decode(encoding)
    except OSError as error:
        raise UserError(f"{path} is not a readable {kind}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path} is not a {kind} in UTF-8: line {line} has bytes that are no character. "
            "Save it as UTF-8. Excel calls this CSV UTF-8."
        ) from error
    if "\0" in text:  # UTF-16 without a mark, UTF-32, or no text at all
        raise UserError(f"{path} is not a {kind} in UTF-8: it has null bytes. Save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
