"""Measures what the cores can do without a server: decoding and `session.run`, alone and together.

This code uses only Pillow and onnxruntime, so the service's own code can be slower than this
bound. The unit is images per second. It knows nothing about HTTP.
"""

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from benchmarks.material import Pictures
from benchmarks.samples import Sample

BATCH_SIZES = (1, 8, 32)
CORES = 2  # layouts of threads are compared for this many cores
DRAFT_MARGIN = 2  # a JPEG is decoded at this many times the input's size or more

Decode = Callable[[bytes], NDArray[np.uint8]]


def open_session(pictures: Pictures, threads: int) -> ort.InferenceSession:
    """Open the model with `threads` threads that do not spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(pictures.path, options, providers=["CPUExecutionProvider"])


def infer(session: ort.InferenceSession, images: NDArray[np.uint8], targets: int = 0) -> list[int]:
    """What tells the answers for `images` (N, H, W, C) apart, with `targets` maps each.

    It is the most probable class, or how many pixels of a mask have the first class.
    """
    target = np.full((len(images), targets), -1, np.int64)  # (N, T)
    feed = {"image": images, "target": target}
    has_mask = len(session.get_inputs()) > len(feed)
    if has_mask:
        height, width = images.shape[1:3]
        feed["region"] = np.full((*target.shape, 5), (-1, 0, 0, width, height), np.int64)
    outputs = ["mask", "probabilities"] if has_mask else ["probabilities"]
    answers = session.run([*outputs, "cam"] if targets else outputs, feed)[0]
    if has_mask:
        return [int(np.count_nonzero(mask == 0)) for mask in answers]
    top: list[int] = answers.argmax(axis=1).tolist()
    return top


def make_decoder(pictures: Pictures, boxed: bool) -> Decode:
    """A decoder to (H, W, C) that resizes, then crops; if `boxed`, with `draft` and one resize."""
    spec = pictures.card["input"]
    mode, size = spec["mode"], (spec["width"], spec["height"])
    shape = size[1], size[0], len(mode)
    bilinear = Image.Resampling.BILINEAR

    def decode(content: bytes) -> NDArray[np.uint8]:
        image: Image.Image = Image.open(io.BytesIO(content))
        width, height = image.size
        if (width, height) == size:
            return np.asarray(image.convert(mode)).reshape(shape)
        scale = (spec["resize"] or size[0]) / min(width, height)
        resized = int(width * scale), int(height * scale)
        left, top = round((resized[0] - size[0]) / 2), round((resized[1] - size[1]) / 2)
        if not boxed:
            whole = image.convert(mode).resize(resized, bilinear)
            cut = whole.crop((left, top, left + size[0], top + size[1]))
            return np.asarray(cut).reshape(shape)
        image.draft(None, (resized[0] * DRAFT_MARGIN, resized[1] * DRAFT_MARGIN))
        x, y = image.width / resized[0], image.height / resized[1]
        box = left * x, top * y, (left + size[0]) * x, (top + size[1]) * y
        return np.asarray(image.convert(mode).resize(size, bilinear, box=box)).reshape(shape)

    return decode


def decode_batch(pictures: Pictures, size: int) -> NDArray[np.uint8]:
    """Decode `size` pictures to the model's input, (N, H, W, C)."""
    decode = make_decoder(pictures, boxed=True)
    return np.stack([decode(pictures.files[i % len(pictures.files)]) for i in range(size)])


def find_answers(pictures: Pictures) -> tuple[Pictures, list[int]]:
    """The right answer to each picture, without pictures whose answer depends on the decoder."""
    session, found = open_session(pictures, 1), []
    plain, boxed = make_decoder(pictures, boxed=False), make_decoder(pictures, boxed=True)
    for content in pictures.files:
        tops = {infer(session, decode(content)[np.newaxis])[0] for decode in (plain, boxed)}
        if len(tops) == 1:
            found.append((content, tops.pop()))
    return replace(pictures, files=tuple(file for file, _ in found)), [top for _, top in found]


def measure_bound(pictures: Pictures, seconds: float) -> Iterator[Sample]:
    """Measure each part alone, then the layouts of all parts together, `seconds` seconds each."""
    spec = pictures.card["input"]
    shape = spec["height"], spec["width"], len(spec["mode"])
    black = np.zeros((max(BATCH_SIZES), *shape), np.uint8)  # (N, H, W, C)
    sessions = {threads: open_session(pictures, threads) for threads in (1, CORES)}
    plain, boxed = make_decoder(pictures, boxed=False), make_decoder(pictures, boxed=True)
    numbers = count()

    def take_file() -> bytes:
        return pictures.files[next(numbers) % len(pictures.files)]

    def sample(layout: str, rate: float) -> Sample:
        return Sample(pictures.name, f"bound: {layout}", 1, {"rps": rate})

    for threads, session in sessions.items():
        for batch in BATCH_SIZES:
            for targets in (0, 1):
                rate = repeat(lambda: len(infer(session, black[:batch], targets)), 1, seconds)  # noqa: B023
                kind = "explain" if targets else "predict"
                yield sample(f"{kind} batch {batch}, {threads} threads", rate)
    yield sample("decode", repeat(lambda: len(plain(take_file())[:1]), 1, seconds))
    yield sample("decode boxed", repeat(lambda: len(boxed(take_file())[:1]), 1, seconds))
    for batch in (1, 8):
        for threads in (1, CORES):
            for workers in sorted({1, CORES}):

                def work() -> int:
                    images = np.stack([boxed(take_file()) for _ in range(batch)])  # noqa: B023
                    return len(infer(sessions[threads], images))  # noqa: B023

                layout = f"together batch {batch}, {workers} workers, {threads} threads"
                yield sample(layout, repeat(work, workers, seconds))


def repeat(work: Callable[[], int], workers: int, seconds: float) -> float:
    """Images per second if `workers` threads call `work`, which returns its number of images."""
    work()
    started = time.perf_counter()
    ends = started + seconds

    def loop(_: int) -> int:
        done = work()
        while time.perf_counter() < ends:
            done += work()
        return done

    with ThreadPoolExecutor(workers) as threads:
        done = sum(threads.map(loop, range(workers)))
    return done / (time.perf_counter() - started)
