"""Reads and explains pictures without a server, within the server's limits of size and time."""

import asyncio
import os
import stat
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from service.cli.errors import CommandError
from service.errors import Timeout
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.decoder import check_size
from service.settings import Settings

T = TypeVar("T")


def read_picture(path: Path, settings: Settings) -> bytes:
    """Return the bytes of a file, but read none that is too large.

    Raises:
        OSError: the file can't be read.
        PayloadTooLarge: it has more bytes than the server accepts.
    """
    most = settings.max_upload_bytes
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            check_size(status.st_size, most)
        content = file.read(most + 1)  # it may grow, and a device may have no end
    check_size(len(content), most)
    return content


def open_classifier(settings: Settings, admission: Admission) -> Classifier:
    """Return what decodes and classifies. Its processes start while there is only one thread.

    Raises:
        CommandError: no process can be started.
    """
    classifier = Classifier(settings, admission)
    try:
        classifier.decoder.start_processes()
    except OSError as exc:
        raise CommandError(f"No process can be started to decode pictures: {exc}.") from None
    return classifier


async def run_in_time(work: Awaitable[T], settings: Settings, pictures: int = 1) -> T:
    """Return the result of the work on one picture. `pictures` share the machine.

    Raises:
        Timeout: it takes longer than the server gives to so many.
    """
    milliseconds = pictures * settings.request_timeout_ms
    try:
        async with asyncio.timeout(milliseconds / 1000):
            return await work
    except TimeoutError:
        raise Timeout(f"The picture took longer than {milliseconds} ms.") from None
