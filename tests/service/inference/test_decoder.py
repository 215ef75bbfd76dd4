"""An image is decoded on the loop, in a thread or in a process; its memory is reserved before."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from service.errors import PayloadTooLarge
from service.imaging.decoding import Picture, decode_image
from service.imaging.geometry import ShownSize
from service.imaging.memory import Drawing
from service.inference.decoder import Decoder, Upload, open_plain_image
from service.inference.memory_budget import MemoryBudget
from service.inference.room import Canvas, Place, Room
from service.settings import Settings
from tests.attacks import picture_files as files
from tests.heic import HEIC
from tests.server import wait_until
from tests.service.imaging.test_geometry import make_input
from tests.service.inference.test_decoder_pool import find_decoders
from tests.service.quadrants_model import encode, light

SPEC = make_input(256, 224, 224)
MAX_PIXELS = 50_000_000
GIF = encode(light(0, (200, 150)), "GIF")


def make_decoder(**settings: int) -> tuple[Decoder, MemoryBudget]:
    chosen = Settings.model_validate({"decode_threads": 1} | settings)
    memory = MemoryBudget(chosen)
    return Decoder(chosen, memory), memory


async def decode_in_room(decoder: Decoder, upload: Upload, place: Place) -> Picture:
    """Decode an image in the room of its canvas, or in one of its own."""
    if upload.canvas:
        return await decoder.decode(upload, place, upload.canvas.room)
    with Room(decoder.memory) as room:
        return await decoder.decode(upload, place, room)


@pytest.mark.parametrize(
    ("content", "is_plain"),
    [
        (encode(light(0, (4000, 3000)), "JPEG"), True),
        (encode(light(0, (500, 375)), "JPEG", progressive=True), True),
        (encode(light(0, (4000, 3000)), "JPEG", progressive=True), False),
        (encode(light(0, (2000, 1500)), "PNG"), True),
        (encode(light(0, (4000, 3000)), "PNG"), False),
        (encode(light(0, (500, 375)), "WEBP"), True),
        (encode(light(0, (500, 375)), "TIFF"), False),
        (encode(light(0, (50, 30)), "AVIF"), False),
        (encode(light(0, (50, 30)), HEIC), False),
        (encode(light(0, (128, 128)), "WEBP", lossless=True), True),
        (files.write_code_groups(1024, 65_536), False),
        (encode(Image.new("L", (1, 65_535))), True),
        (encode(Image.new("L", (1, 65_536))), False),
        (encode(Image.new("L", (65_536, 1))), False),
    ],
    ids=[
        "photograph",
        "progressive",
        "large progressive",
        "PNG",
        "large PNG",
        "WebP",
        "TIFF",
        "AVIF",
        "HEIC",
        "lossless WebP",
        "codes of a WebP",
        "tall",
        "too tall",
        "too wide",
    ],
)
def test_only_an_image_of_known_and_low_cost_is_decoded_in_a_thread(
    content: bytes, is_plain: bool
) -> None:
    assert (open_plain_image(Upload(content, SPEC, None), MAX_PIXELS, 0) is not None) == is_plain


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_room_is_held_until_the_picture_is_drawn(file_format: str) -> None:
    content = encode(light(0, (800, 600)), file_format)

    async def test() -> None:
        decoder, memory = make_decoder()
        canvas = Canvas(Drawing(ShownSize(), is_repeated=False), Room(memory, is_drawn=True))
        with canvas.room:
            await decode_in_room(decoder, Upload(content, SPEC, canvas), Place(asyncio.Semaphore()))
            assert memory.bytes == canvas.room.size >= 800 * 600 * 7
        await wait_until_free(memory)

    asyncio.run(test())


def test_without_drawing_all_room_is_free_once_the_picture_is_decoded() -> None:
    async def test() -> None:
        decoder, memory = make_decoder()
        upload = Upload(encode(light(0, (800, 600))), SPEC, None)
        await decode_in_room(decoder, upload, Place(asyncio.Semaphore()))
        await wait_until_free(memory)

    asyncio.run(test())


def test_a_drawing_that_can_never_fit_is_rejected_with_what_to_do() -> None:
    async def test() -> None:
        decoder, memory = make_decoder(max_inflight_bytes=4_000_000, max_image_pixels=1_000_000)
        canvas = Canvas(Drawing(ShownSize(4096), is_repeated=False), Room(memory, is_drawn=True))
        upload, place = (
            Upload(encode(Image.new("L", (28, 28))), SPEC, canvas),
            Place(asyncio.Semaphore()),
        )
        with canvas.room, pytest.raises(PayloadTooLarge, match="set 'size' to a smaller value"):
            await decode_in_room(decoder, upload, place)
        assert memory.bytes == 0

    asyncio.run(test())


def test_while_all_threads_are_overdue_the_decoder_is_not_ready() -> None:
    async def test() -> None:
        decoder, memory = make_decoder()
        started, end = threading.Event(), threading.Event()
        room = Room(memory)
        await room.reserve(1000)
        with room:
            work = asyncio.create_task(decoder.run_in_thread(lambda: hold(started, end), room))
            await wait_for(started.is_set)
            assert decoder.reasons_not_ready() == []
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        assert decoder.reasons_not_ready() == [
            "All threads are busy with images whose deadline is over."
        ]
        assert memory.bytes == 1000, "the thread still uses its memory"
        end.set()
        await wait_for(lambda: decoder.reasons_not_ready() == [])
        await wait_until_free(memory)

    asyncio.run(test())


def test_work_that_waits_for_a_thread_and_is_cancelled_never_runs() -> None:
    async def test() -> None:
        decoder, _ = make_decoder()
        started, end, ran = threading.Event(), threading.Event(), threading.Event()
        first = asyncio.create_task(decoder.run_in_thread(lambda: hold(started, end), None))
        await wait_for(started.is_set)
        second = asyncio.create_task(decoder.run_in_thread(ran.set, None))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        end.set()
        await first
        assert decoder.reasons_not_ready() == []
        assert not ran.is_set()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("size", "is_busy", "jobs"),
    [((900, 900), False, 1), ((2000, 1900), False, 2), ((900, 900), True, 2)],
    ids=["small", "large", "no room"],
)
def test_an_image_that_needs_little_takes_one_way_into_a_thread(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], is_busy: bool, jobs: int
) -> None:
    decoder, memory = make_decoder(max_image_pixels=4_000_000, max_inflight_bytes=24_000_000)
    held = memory.max_pixel_bytes if is_busy else 0
    ways: list[Callable[[], Any]] = []
    run_in_thread = decoder.run_in_thread

    async def note_way(function: Callable[[], Any], room: Room | None) -> Any:
        ways.append(function)
        result = await run_in_thread(function, room)
        if is_busy and len(ways) == 1:
            memory.free_pixels(held, held)
        return result

    async def test() -> None:
        monkeypatch.setattr(decoder, "run_in_thread", note_way)
        assert memory.try_reserve_pixels(held)
        upload = Upload(encode(Image.effect_noise(size, 50)), SPEC, None)
        async with asyncio.timeout(60):
            picture = await decode_in_room(decoder, upload, Place(asyncio.Semaphore()))
        assert picture.pixels.shape == (224, 224, 3)
        assert len(ways) == jobs
        await wait_until_free(memory)

    asyncio.run(test())


def test_an_image_that_waits_for_room_leaves_its_place_to_others() -> None:
    async def test() -> None:
        decoder, memory = make_decoder(max_image_pixels=1_000_000, max_inflight_bytes=8_000_000)
        room = memory.max_pixel_bytes
        assert memory.try_reserve_pixels(room)
        slots = asyncio.Semaphore(1)

        async def decode() -> None:
            async with Place(slots) as place:
                upload = Upload(encode(light(0, (900, 900))), SPEC, None)
                await decode_in_room(decoder, upload, place)

        waiting = asyncio.create_task(decode())
        await wait_for(lambda: not slots.locked())
        await slots.acquire()  # another image
        memory.free_pixels(room, room)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        slots.release()
        await waiting
        assert not slots.locked()

    asyncio.run(test())


def test_a_tiff_with_wild_tags_is_never_an_error_of_ours() -> None:
    good = files.describe_tiles(1, (128, 128), (128, 128), 8, 1, 128 * 128)

    async def test() -> None:
        decoder, memory = make_decoder()
        for tag in (322, 323, 258, 277, 324, 278):
            for kind in range(1, 17):
                content = files.write_tiff(good | {tag: (kind, 3, b"\xff" * 24)}, bytes(128 * 128))
                upload = Upload(content, SPEC, None)
                results = await asyncio.gather(
                    decode_in_room(decoder, upload, Place(asyncio.Semaphore())),
                    return_exceptions=True,
                )
                status = getattr(results[0], "status", 200)
                assert status < 500, (tag, kind, results[0])
        await wait_until_free(memory)

    asyncio.run(test())


def hold(started: threading.Event, end: threading.Event) -> None:
    """Keep a thread busy until `end`."""
    started.set()
    end.wait()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def wait_until_free(memory: MemoryBudget) -> None:
    await wait_for(lambda: memory.bytes == 0)


@pytest.mark.parametrize(("side", "is_inline"), [(256, True), (512, False)])
def test_a_large_input_is_not_made_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, side: int, is_inline: bool
) -> None:
    decoder, _ = make_decoder()
    threads: list[threading.Thread] = []

    def note_thread(*arguments: Any) -> Picture:
        threads.append(threading.current_thread())
        return decode_image(*arguments)

    monkeypatch.setattr("service.inference.decoder.decode_image", note_thread)
    upload = Upload(encode(light(0, (28, 28))), make_input(None, side, side), None)
    asyncio.run(decode_in_room(decoder, upload, Place(asyncio.Semaphore(1))))
    assert [thread is threading.main_thread() for thread in threads] == [is_inline]


@pytest.fixture
def with_processes() -> Iterator[tuple[Decoder, MemoryBudget]]:
    """A decoder that has two processes, and its memory."""
    decoder, memory = make_decoder()
    decoder.start_processes()
    yield decoder, memory
    helpers = {child.parent() for child in find_decoders()}
    for helper in helpers:
        assert helper
        helper.kill()
        helper.wait()
    wait_until(lambda: not find_decoders())


@pytest.mark.skipif(sys.platform != "linux", reason="processes are Linux only")
def test_pictures_that_take_long_leave_a_process_to_others(
    with_processes: tuple[Decoder, MemoryBudget],
) -> None:
    decoder, memory = with_processes
    slow = files.write_slow_scans(4000, 250, b"\xff")  # more than a second of processor time

    async def test() -> None:
        place = Place(asyncio.Semaphore(9))
        long = [
            asyncio.create_task(decode_in_room(decoder, Upload(slow, SPEC, None), place))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        await decode_in_room(decoder, Upload(GIF, SPEC, None), place)
        assert not any(task.done() for task in long)
        for task in long:
            task.cancel()
        await asyncio.wait(long)
        while memory.bytes:  # until the processes have ended
            await asyncio.sleep(0.01)

    asyncio.run(test())


@pytest.mark.skipif(sys.platform != "linux", reason="processes are Linux only")
def test_pictures_that_take_long_are_all_decoded(
    with_processes: tuple[Decoder, MemoryBudget],
) -> None:
    decoder, memory = with_processes
    slow = files.write_run_lengths(20_000, 400)

    async def test() -> None:
        upload = Upload(slow, SPEC, None)
        place = Place(asyncio.Semaphore(9))
        pictures = await asyncio.gather(*(decode_in_room(decoder, upload, place) for _ in range(3)))
        assert [picture.size for picture in pictures] == [(20_000, 400)] * 3

    asyncio.run(test())
    assert memory.bytes == 0
