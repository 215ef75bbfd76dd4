"""Decodes pictures in a process that may be killed, and has limits of its own.

This is what runs in the process, and how a picture goes there and comes back. Messages are JSON and
bytes, so nothing is unpickled. It knows nothing about the server.
"""

import gc
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from service import errors
from service.artifact.card import InputSpec
from service.errors import ApiError, InvalidImage
from service.imaging.decoding import FORMATS, Picture, decode_image, open_image
from service.imaging.geometry import Box, ShownSize, Size
from service.imaging.memory import (
    MAX_BYTES_PER_PIXEL,
    Drawing,
    check_tiles,
    count_input_bytes,
    estimate_decode_bytes,
    estimate_drawing_bytes,
)
from service.imaging.structure import check_scans
from service.machine import make_expendable
from service.repository.memory import return_free_memory

SPARE_BYTES = 32 << 20  # of a process, on top of what a picture needs, such as for its texts
KEPT_BYTES = 4 << 20  # that an idle process may hold
MAX_LOST_BYTES = 8 << 20  # of the room for the next pictures; a process that lost more is replaced
BAND_BYTES = 1 << 20  # of a large picture that is sent at a time
OUT_OF_MEMORY = (
    "Decoding the image takes more memory than its header announces. "
    "Save it again with a usual program."
)
FAULTS = (errors.InvalidImage, errors.ImageTooLarge, errors.UnsupportedMediaType)


class Job(NamedTuple):
    """One picture to decode, and within which limits."""

    content: bytes
    spec: InputSpec
    drawing: Drawing | None
    max_pixels: int
    reserved: int  # bytes that it needs at most, in the process and while it is sent
    cpu_seconds: int


class NeedsMore(NamedTuple):
    """The picture was not decoded, because that takes more bytes than were reserved."""

    size: int


class WornOut(Exception):
    """A process has too little memory left for another job."""


class Memory(NamedTuple):
    """The bytes of a process: what may be written, and what it takes."""

    writable: int
    resident: int


def send_job(pipe: Connection, job: Job) -> None:
    """Send a picture to a process."""
    header: dict[str, Any] = job._asdict()
    del header["content"]
    header["spec"] = job.spec.model_dump(mode="json")
    header["drawing"] = asdict(job.drawing) if job.drawing else None
    pipe.send_bytes(json.dumps(header).encode())
    pipe.send_bytes(job.content)


def receive_result(pipe: Connection) -> Picture | NeedsMore:
    """Wait for the result of a job.

    Raises:
        InvalidImage, ImageTooLarge, UnsupportedMediaType: as decoding does.
        WornOut: the process did not take the job, and ends.
        EOFError, OSError: the process has ended.
    """
    answer = json.loads(pipe.recv_bytes())
    if "worn_out" in answer:
        raise WornOut
    if "needs" in answer:
        return NeedsMore(answer["needs"])
    for fault in FAULTS:
        if fault.code == answer.get("fault"):
            raise fault(answer["message"])
    pixels = np.frombuffer(pipe.recv_bytes(), np.uint8).reshape(answer["shape"])  # (H, W, C)
    shown = receive_picture(pipe, answer["shown"]) if answer["shown"] else None
    return Picture(pixels, tuple(answer["size"]), Box(**answer["crop"]), shown)


def run_decoder(pipe: Connection) -> None:
    """In the process: decode one picture after the other, until the pipe is closed.

    A picture that reached the limit may leave malloc with parts that it neither uses nor gives
    back. They would be missing for the next picture. Such a process takes no more jobs and ends.
    """
    make_expendable()
    warnings.simplefilter("ignore")  # Python would keep the text of each one for ever
    warm_up()
    return_free_memory()
    base = measure_memory()
    is_worn_out = False
    while True:
        header = json.loads(pipe.recv_bytes())
        if is_worn_out:
            pipe.recv_bytes()
            pipe.send_bytes(json.dumps({"worn_out": True}).encode())
            return
        if drawing := header["drawing"]:
            for name in ("shown_size", "mask_size"):
                drawing[name] = ShownSize(**drawing[name]) if drawing[name] else None
            header["drawing"] = Drawing(**drawing)
        header["spec"] = InputSpec.model_validate(header["spec"])
        limit_use(base, SPARE_BYTES + header["reserved"], header["cpu_seconds"])
        try:
            answer_job(pipe, Job(pipe.recv_bytes(), **header))
        except FAULTS as exc:
            is_memory = isinstance(exc.__context__, MemoryError)
            send_fault(pipe, InvalidImage(OUT_OF_MEMORY) if is_memory else exc)
        except MemoryError:
            send_fault(pipe, InvalidImage(OUT_OF_MEMORY))
        gc.collect()  # a picture may be part of a cycle
        memory = measure_memory()
        if memory.resident > base.resident + KEPT_BYTES:
            return_free_memory()
            memory = measure_memory()
        is_worn_out = memory.writable > base.writable + MAX_LOST_BYTES


def measure_memory() -> Memory:
    """Return what this process has now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Memory(*(int(fields[name].split()[0]) * 1024 for name in ("VmData", "VmRSS")))


def open_any_image(content: bytes, max_pixels: int) -> Image.Image:
    """Read the header of an image of any format.

    Raises:
        UnsupportedMediaType, InvalidImage, ImageTooLarge: as `open_image` and `check_tiles`.
    """
    check_scans(content)
    image = open_image(content, max_pixels)
    check_tiles(image, max_pixels)
    return image


def answer_job(pipe: Connection, job: Job) -> None:
    """Decode a picture if there is room for it, and send the result."""
    image = open_any_image(job.content, job.max_pixels)
    size = estimate_job_bytes(image, job)
    if size > job.reserved:
        pipe.send_bytes(json.dumps({"needs": size}).encode())
        return
    shown_size = job.drawing.shown_size if job.drawing else None
    picture = decode_image(image, job.spec, shown_size)
    del image
    answer = {
        "shape": picture.pixels.shape,
        "size": picture.size,
        "crop": asdict(picture.crop),
        "shown": picture.shown and picture.shown.size,
    }
    pipe.send_bytes(json.dumps(answer).encode())
    pipe.send_bytes(picture.pixels.tobytes())
    if picture.shown:
        send_picture(pipe, picture.shown)


def estimate_job_bytes(image: Image.Image, job: Job) -> int:
    """The most of: decoding, the drawn picture on both sides of the pipe, and drawing."""
    copies = 2 * len(job.content)
    if not job.drawing:
        return estimate_decode_bytes(image, job.spec) + copies
    shown_size = job.drawing.shown_size
    shown = prod(shown_size(image.size)) if shown_size else 0
    return max(
        estimate_decode_bytes(image, job.spec, shown_size) + copies,
        2 * MAX_BYTES_PER_PIXEL * shown + copies,
        estimate_drawing_bytes(image, job.drawing) + count_input_bytes(job.spec),
    )


def send_fault(pipe: Connection, fault: ApiError) -> None:
    """Send the reason why a picture can't be decoded."""
    pipe.send_bytes(json.dumps({"fault": fault.code, "message": str(fault)}).encode())


def send_picture(pipe: Connection, image: Image.Image) -> None:
    """Send an RGB picture in bands, so that there is no second copy of it."""
    for top, bottom in cut_rows(image.size):
        pipe.send_bytes(image.crop((0, top, image.width, bottom)).tobytes())


def receive_picture(pipe: Connection, size: Size) -> Image.Image:
    """Receive an RGB picture."""
    image = Image.new("RGB", (size[0], size[1]))
    for top, bottom in cut_rows(size):
        band = Image.frombytes("RGB", (size[0], bottom - top), pipe.recv_bytes())
        image.paste(band, (0, top))
    return image


def cut_rows(size: Size) -> Iterator[tuple[int, int]]:
    """The first row of each band, and the first after it."""
    rows = max(1, BAND_BYTES // (3 * size[0]))
    for top in range(0, size[1], rows):
        yield top, min(top + rows, size[1])


def limit_use(base: Memory, more_bytes: int, cpu_seconds: int) -> None:
    """Have the kernel refuse more memory, and end this process after so much more CPU time.

    The limit is of what may be written. One of the address space would not do: malloc has parts
    of it in reserve. Both together would not do either: where a process reaches the second, the
    kernel no longer checks the first when malloc takes from its reserve.
    """
    import resource  # exists on Unix only

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    limits = {
        resource.RLIMIT_DATA: base.writable + more_bytes,
        resource.RLIMIT_CPU: seconds,
    }
    for kind, limit in limits.items():
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        resource.setrlimit(kind, (limit, most))


def warm_up() -> None:
    """Load what decoding needs, so that the first picture does not wait for it."""
    spec = InputSpec(
        mode="RGB", height=8, width=8, resize=None, crop=None, interpolation="bilinear"
    )
    for file_format in FORMATS:
        if file_format == "AVIF":
            continue  # its encoder takes 5 MB
        file = io.BytesIO()
        Image.new("RGB", (16, 16)).save(file, file_format)
        decode_image(open_image(file.getvalue(), 256), spec)
