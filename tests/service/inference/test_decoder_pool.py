"""Pictures are decoded in processes that may be killed, and then replaced."""

import socket
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import psutil
import pytest
from PIL import Image

from service.artifact.card import InputSpec
from service.errors import ImageTooLarge, InvalidImage, UnsupportedMediaType
from service.imaging.decoding import Picture, decode_image, open_image
from service.imaging.geometry import ShownSize
from service.imaging.memory import Drawing
from service.inference.decoder_pool import DecoderPool, Decoding
from service.inference.decoder_process import Job, NeedsMore, receive_result
from service.processes import Forks, run_helper
from tests.attacks import picture_files as files
from tests.contract.pictures import announce_size
from tests.heic import HEIC
from tests.server import PATIENCE, wait_until
from tests.service.imaging.test_geometry import make_input
from tests.service.quadrants_model import encode, light, write_model
from tests.warm_process import start_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are Linux only")
SPEC = make_input(256, 224, 224)
DRAWING = Drawing(ShownSize(), is_repeated=False)
MEGABYTE = 1 << 20


HELPERS: list[psutil.Process] = []


class FreshForks(Forks):
    """Forks whose helper is a new process.

    As a fork of this one it would have all memory that earlier tests left to malloc, beyond every
    limit. A server's worker has hardly any when it forks its helper.
    """

    def start(self) -> None:
        super().start()
        assert self._process
        HELPERS.append(psutil.Process(self._process.pid))

    def _make_helper(self, theirs: socket.socket) -> BaseProcess:
        return get_context("spawn").Process(target=run_helper, args=(theirs, self._run))


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.inference.decoder_pool.Forks", FreshForks)
        pool = DecoderPool(1)
    pool.start()
    yield pool
    for helper in filter(is_alive, HELPERS):
        helper.kill()


def find_decoders() -> list[psutil.Process]:
    """The processes that the helpers of the pool forked."""
    helpers = [helper for helper in HELPERS if is_alive(helper)]
    children = [child for helper in helpers for child in helper.children()]
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def make_job(
    content: bytes,
    drawing: Drawing | None = None,
    reserved: int = 100 * MEGABYTE,
    cpu_seconds: int = 60,
    spec: InputSpec = SPEC,
) -> Job:
    return Job(content, spec, drawing, 50_000_000, reserved, cpu_seconds)


def decode(pool: DecoderPool, job: Job) -> Picture | NeedsMore:
    return pool.submit(job)[0].result(PATIENCE)


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP", "PNG", "AVIF", HEIC])
def test_a_process_gives_the_same_picture_as_a_thread(pool: DecoderPool, file_format: str) -> None:
    content = encode(light(2, (1500, 900)), file_format)
    expected = decode_image(open_image(content, 50_000_000), SPEC, DRAWING.shown_size)
    found = decode(pool, make_job(content, DRAWING))
    assert isinstance(found, Picture)
    assert (expected.size, expected.crop) == (found.size, found.crop)
    assert np.array_equal(expected.pixels, found.pixels)
    assert found.shown is not None
    assert np.array_equal(np.asarray(expected.shown), np.asarray(found.shown))


def test_a_picture_that_needs_more_than_reserved_says_so(pool: DecoderPool) -> None:
    content = encode(light(1, (2000, 2000)), "TIFF")
    needed = decode(pool, make_job(content, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    assert isinstance(decode(pool, make_job(content, reserved=needed.size)), Picture)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"I am no cat.", UnsupportedMediaType),
        (encode(light(0), "TIFF")[:200], InvalidImage),
        (announce_size(10_000, 10_000), ImageTooLarge),
        (files.write_fax_tile((400_000, 28_000)), ImageTooLarge),
        (files.write_tiles(40, (16, 1_000_000), (640, 16)), ImageTooLarge),
        (files.write_texts(60, 1_000_000), InvalidImage),
        (files.write_long_tag(8_000_000), InvalidImage),
    ],
    ids=["text", "cut off", "pixels", "huge tile", "many tiles", "PNG texts", "EXIF"],
)
def test_errors_are_those_of_decoding(
    pool: DecoderPool, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        decode(pool, make_job(content, reserved=4 * MEGABYTE))


def test_codes_of_a_webp_take_no_more_memory_than_is_reserved(pool: DecoderPool) -> None:
    spoil_process(pool)


def spoil_process(pool: DecoderPool) -> None:
    """Have a process reach its limit in many small steps, which malloc keeps."""
    hostile = files.write_code_groups(1024, 65_536)
    needed = decode(pool, make_job(hostile, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    with pytest.raises(InvalidImage):
        decode(pool, make_job(hostile, reserved=needed.size))


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF", HEIC])
def test_a_picture_that_reached_its_limit_leaves_the_next_one_its_memory(
    pool: DecoderPool, file_format: str
) -> None:
    honest = encode(light(1, (900, 700)), file_format)
    spoil_process(pool)
    needed = decode(pool, make_job(honest, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    spoil_process(pool)
    assert isinstance(decode(pool, make_job(honest, reserved=needed.size)), Picture)


def test_an_avif_larger_than_its_header_says_takes_no_more_memory_than_is_reserved(
    pool: DecoderPool,
) -> None:
    """Its header says 64 x 64, its stream has 63 million pixels: 95 MB where 9 are reserved."""
    hostile = files.write_larger_avif((9000, 7000), (64, 64))
    assert open_image(hostile, 50_000_000).size == (64, 64)
    with pytest.raises(InvalidImage):
        decode(pool, make_job(hostile, reserved=9 * MEGABYTE))
    honest = encode(light(1, (900, 700)), "AVIF")
    needed = decode(pool, make_job(honest, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    assert isinstance(decode(pool, make_job(honest, reserved=needed.size)), Picture)


def test_a_heic_larger_than_its_header_says_takes_no_more_memory_than_is_reserved(
    pool: DecoderPool,
) -> None:
    """Its header says 64 x 64, its stream has 36 million pixels: 54 MB where 9 are reserved."""
    hostile = files.write_larger_heic((6000, 6000), (64, 64))
    assert open_image(hostile, 50_000_000).size == (64, 64)
    with pytest.raises(InvalidImage):
        decode(pool, make_job(hostile, reserved=9 * MEGABYTE))
    honest = encode(light(1, (900, 700)), HEIC)
    needed = decode(pool, make_job(honest, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    assert isinstance(decode(pool, make_job(honest, reserved=needed.size)), Picture)


def test_frames_of_an_avif_take_no_more_memory_than_is_reserved(pool: DecoderPool) -> None:
    """A table announces two million frames, for which libavif wants 100 bytes each."""
    with pytest.raises(InvalidImage):
        decode(pool, make_job(files.write_avif_frames(2_000_000), reserved=9 * MEGABYTE))


def test_a_lossless_webp_of_a_usual_program_has_enough_memory(pool: DecoderPool) -> None:
    noise = Image.effect_noise((500, 400), 100)
    picture = Image.merge("RGBA", [noise, light(0, (500, 400)).getchannel(0), noise, noise])
    content = encode(picture, "WEBP", lossless=True, quality=100, method=6)
    needed = decode(pool, make_job(content, reserved=MEGABYTE))
    assert isinstance(needed, NeedsMore)
    assert isinstance(decode(pool, make_job(content, reserved=needed.size)), Picture)


def test_a_process_ends_when_its_time_is_over_and_is_replaced(pool: DecoderPool) -> None:
    with pytest.raises(InvalidImage, match="too much time"):
        decode(pool, make_job(files.write_profiles(3000), cpu_seconds=0))
    assert isinstance(decode(pool, make_job(encode(light(0), "GIF"))), Picture)


def test_a_job_that_is_stopped_takes_no_more_time(pool: DecoderPool) -> None:
    running, decoding = pool.submit(make_job(files.write_fill_bytes(10_000_000)))
    [decoder] = find_decoders()
    wait_until(lambda: decoder.cpu_percent(0.1) > 0)
    decoding.stop()
    with pytest.raises(InvalidImage):
        running.result(PATIENCE)
    wait_until(lambda: not is_alive(decoder))
    assert isinstance(decode(pool, make_job(encode(light(0), "GIF"))), Picture)


def test_a_job_stopped_before_it_started_uses_no_process(pool: DecoderPool) -> None:
    [before] = find_decoders()
    pool.submit(make_job(files.write_profiles(500)))
    waiting, decoding = pool.submit(make_job(encode(light(0), "GIF")))
    decoding.stop()
    with pytest.raises(BaseException):  # noqa: B017, PT011  # CancelledError is no Exception
        waiting.result(PATIENCE)
    assert [before] == find_decoders()


def test_a_job_stopped_as_it_ends_does_not_fail_the_next(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: SimpleQueue[Decoding] = SimpleQueue()

    def receive_and_stop(pipe: Connection) -> Picture | NeedsMore:
        result = receive_result(pipe)
        if not jobs.empty():
            jobs.get().stop()
        return result

    monkeypatch.setattr("service.inference.decoder_pool.receive_result", receive_and_stop)
    good = make_job(encode(light(0), "GIF"))
    for _ in range(10):
        slow = pool.submit(make_job(encode(Image.effect_noise((500, 500), 90), "GIF")))
        jobs.put(slow[1])
        assert isinstance(decode(pool, good), Picture)


def test_a_process_that_was_killed_while_idle_is_replaced(pool: DecoderPool) -> None:
    [decoder] = find_decoders()
    decoder.kill()
    wait_until(lambda: not is_alive(decoder))
    assert isinstance(decode(pool, make_job(encode(light(0), "GIF"))), Picture)


def test_a_helper_that_was_killed_is_replaced(pool: DecoderPool) -> None:
    [decoder] = find_decoders()
    helper = decoder.parent()
    assert helper
    helper.kill()
    wait_until(lambda: not is_alive(decoder))
    assert isinstance(decode(pool, make_job(encode(light(0), "GIF"))), Picture)


def test_a_helper_that_was_stopped_is_replaced(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.processes.HELPER_SECONDS", 4)  # the new one is no fork here
    [decoder] = find_decoders()
    helper = decoder.parent()
    assert helper
    helper.suspend()
    decoder.kill()
    wait_until(lambda: not is_alive(decoder))
    assert isinstance(decode(pool, make_job(encode(light(0), "GIF"))), Picture)
    assert not is_alive(helper)


def test_no_memory_is_taken_beyond_what_is_reserved(pool: DecoderPool) -> None:
    [decoder] = find_decoders()
    before = decoder.memory_info().rss
    with pytest.raises(InvalidImage, match="more memory"):
        decode(pool, make_job(files.write_texts(60, 1_000_000), reserved=MEGABYTE))
    # this process leaves it more free memory than a worker does
    assert decoder.memory_info().rss - before < 128 * MEGABYTE


def test_a_picture_of_many_bands_arrives_whole(pool: DecoderPool) -> None:
    picture = Image.effect_noise((1800, 1300), 90).convert("RGB")
    drawing = Drawing(ShownSize(0), is_repeated=False)
    found = decode(pool, make_job(encode(picture, "BMP"), drawing))
    assert isinstance(found, Picture)
    assert found.shown is not None
    assert np.array_equal(np.asarray(picture), np.asarray(found.shown))


def test_processes_end_with_their_worker(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "quadrants" / "1" / "model.onnx")
    with start_worker(tmp_path / "models", tmp_path) as server:
        server.wait_ready()
        worker = psutil.Process(server.pid)
        family = worker.children(recursive=True)
        assert len(family) > 2, "the helpers and a decoder"
        worker.kill()
        wait_until(lambda: not any(is_alive(process) for process in family))


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
