"""Hostile pictures: small files that ask for much memory or much work."""

import contextlib
import random
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
from PIL import Image

from tests.attacks import picture_files as files
from tests.attacks.attack import Attack
from tests.contract.wire import connect, start_post
from tests.server import Server, connect_client
from tests.service.quadrants_model import encode

DEADLINE_MS = 3000
CALLERS = 40
SPARE_CPU_SECONDS = 4.0  # of the good client and of the service itself
WATCH_SECONDS = 0.6  # after the answers, in which a good client asks at least once
REJECTED = {400, 413, 415, 422, 429, 504}


def post(server: Server, path: str, *pictures: bytes, **parameters: object) -> httpx.Response:
    """Send one picture as it is, or several as a form."""
    fields = {name: str(value) for name, value in parameters.items()}
    with connect_client(server.port) as client:
        if len(pictures) == 1:
            return client.post(path, content=pictures[0], params=fields)
        return client.post(path, files=[("image", picture) for picture in pictures], params=fields)


def send_together(calls: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """Make all calls at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = [future.result() for future in [pool.submit(call) for call in calls]]
    time.sleep(WATCH_SECONDS)
    return answers


def find_faults(answers: Sequence[httpx.Response]) -> list[str]:
    """Return a sentence for each answer that no picture may cause."""
    allowed = {200, *REJECTED}
    return [
        f"status {answer.status_code}: {answer.text[:200]}"
        for answer in answers
        if answer.status_code not in allowed or '"code":"internal"' in answer.text[-20_000:]
    ]


def send_copies(
    make: Callable[[], bytes], server: Server, scale: float, path: str = "/predict", copies: int = 8
) -> list[str]:
    """Send one picture several times at once."""
    picture = make()
    count = max(1, round(copies * scale))
    return find_faults(send_together([partial(post, server, path, picture)] * count))


def draw_large(server: Server, scale: float) -> list[str]:
    """Explain a picture of 38 megapixels in its own size."""
    picture = files.write_flat_png(7000, 5428)
    count = max(1, round(8 * scale))
    call = partial(post, server, "/gradcam", picture, size=0)
    return find_faults(send_together([call] * count))


def draw_batch(server: Server, scale: float) -> list[str]:
    """Explain tiny pictures, each drawn as large as possible."""
    pictures = [encode(Image.new("L", (28, 28), level)) for level in range(0, 64, 8)]
    count = max(2, round(len(pictures) * scale))
    call = partial(post, server, "/gradcam/batch", *pictures[:count], view="overlay", size=4096)
    return find_faults(send_together([call]))


def draw_noise(server: Server, scale: float) -> list[str]:
    """Ask for large pictures as text, which no encoder makes small."""
    picture = files.write_noise(1200, 1200, "JPEG")
    count = max(2, round(16 * scale))
    call = partial(post, server, "/gradcam/batch", *[picture] * count, view="overlay", size=4096)
    return find_faults(send_together([call]))


def mix_large(server: Server, scale: float) -> list[str]:
    """Send large pictures of all kinds for a while, some of which are drawn large."""
    kinds = {"JPEG": (4000, 3000), "PNG": (2400, 2400), "WEBP": (2000, 1500), "TIFF": (1500, 1500)}
    noise = Image.effect_noise((400, 300), 90).convert("RGB")
    pictures = [encode(noise.resize(size), kind) for kind, size in kinds.items()]
    paths = ("/predict", "/gradcam?size=0", "/gradcam?size=4096", "/gradcam?size=2000&view=overlay")
    end = time.monotonic() + 10 * scale

    def send(number: int) -> list[httpx.Response]:
        calls = random.Random(number)
        answers = []
        while time.monotonic() < end:
            answers.append(post(server, calls.choice(paths), calls.choice(pictures)))
        return answers

    with ThreadPoolExecutor(CALLERS) as pool:
        return find_faults([answer for each in pool.map(send, range(CALLERS)) for answer in each])


def send_batch(make: Callable[[], bytes], server: Server, scale: float) -> list[str]:
    """Send one picture several times in a batch."""
    count = max(2, round(8 * scale))
    call = partial(post, server, "/predict/batch", *[make()] * count)
    return find_faults(send_together([call]))


def send_slow(make: Callable[[], bytes], server: Server, _: float) -> list[str]:
    """Send two slow pictures. Afterwards no processor time goes into them."""
    picture = make()
    answers = send_together([partial(post, server, "/predict", picture)] * 2)
    time.sleep(2)
    return find_faults(answers)


def send_wrong_types(server: Server, scale: float) -> list[str]:
    """Send TIFFs each of which has a tag of a wrong type or with a wild value."""
    values = (0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
    infinity, nan = struct.pack("<d", float("inf")), struct.pack("<d", float("nan"))
    shapes: list[tuple[int, int, int | bytes]] = [
        (kind, 1, value) for kind in range(1, 18) for value in values
    ]
    shapes += [(kind, 3, bytes(24)) for kind in range(1, 18)]
    shapes += [(12, 1, infinity), (12, 1, nan), (12, 2, infinity * 2), (5, 1, bytes(8)), (2, 0, 0)]
    good = files.describe_tiles(1, (128, 128), (128, 128), 8, 1, 128 * 128)
    step = max(1, round(1 / scale))
    answers = []
    for tag in [*good, 273, 278, 279, 284, 338, 339, 274, 282, 296, 530]:
        for shape in shapes[tag % step :: step]:
            picture = files.write_tiff(good | {tag: shape}, bytes(128 * 128))
            answers.append(server.client.post("/predict", content=picture))
    return find_faults(answers)


def crowd_room(server: Server, scale: float) -> list[str]:
    """Send pictures that need nearly all memory for pixels. A small one must not wait for them."""
    large = files.write_flat_png(7000, 7000)
    small = encode(Image.new("RGB", (300, 300)))
    with ThreadPoolExecutor() as pool:
        count = max(2, round(8 * scale))
        waiting = [pool.submit(post, server, "/gradcam", large, size=1024) for _ in range(count)]
        time.sleep(0.3)
        started = time.perf_counter()
        answer = server.client.post("/predict", content=small)
        seconds = time.perf_counter() - started
        faults = find_faults([answer, *(future.result() for future in waiting)])
    if answer.status_code != 200 or seconds > DEADLINE_MS / 1000 / 2:
        faults.append(f"a small picture took {seconds:.1f} s and got {answer.status_code}")
    return faults


def take_decoders(
    make: Callable[[], bytes], server: Server, scale: float, connections: int = 40
) -> list[str]:
    """Send pictures that take seconds of processor time each. A small GIF must not wait for all."""
    slow, small = make(), encode(Image.effect_noise((300, 200), 50), "GIF")
    faults = []
    with contextlib.ExitStack() as stack:
        for _ in range(connections):
            connection = stack.enter_context(connect(server))
            start_post(connection, "/predict", len(slow))
            connection.sendall(slow)
        end = time.monotonic() + max(2 * WATCH_SECONDS, 10 * scale)
        while time.monotonic() < end:
            answer = post(server, "/predict", small)
            if answer.status_code != 200:
                faults.append(f"a small GIF got {answer.status_code}: {answer.text[:200]}")
    return faults


def take_places(server: Server, scale: float) -> list[str]:
    """Send batches of slow pictures, so many that they would fill the queue."""
    slow, small = files.write_slow_scans(2000, 200), encode(Image.new("RGB", (28, 28)))
    end = time.monotonic() + max(4.0, 20 * scale)

    def send_until_end(_: int) -> list[httpx.Response]:
        answers = []
        while time.monotonic() < end:
            answers.append(post(server, "/predict/batch", *[slow] * 64))
            time.sleep(0.2)
        return answers

    faults = []
    with ThreadPoolExecutor(5) as pool:
        sending = [pool.submit(send_until_end, number) for number in range(5)]
        while time.monotonic() < end:
            answer = post(server, "/predict", small)
            if answer.status_code != 200:
                faults.append(f"a small picture got {answer.status_code}: {answer.text[:200]}")
            time.sleep(0.05)
        return faults + [fault for future in sending for fault in find_faults(future.result())]


def keep_room(server: Server, scale: float) -> list[str]:
    """Send pictures that need most of the room and take long, so that some always wait for it.

    A photograph must find room meanwhile.
    """
    large = files.write_slow_scans(7000, 250, b"\xff")
    small = files.write_noise(640, 480)
    start = time.monotonic()
    end = start + 6 + 24 * scale

    def send_until_end(number: int) -> list[httpx.Response]:
        time.sleep(number * 0.5)
        answers = [post(server, "/predict", large)]
        while time.monotonic() < end:
            answers.append(post(server, "/predict", large))
        return answers

    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(send_until_end, number) for number in range(8)]
        answers = [post(server, "/predict", small)]
        while time.monotonic() < end:
            answers.append(post(server, "/predict", small))
            time.sleep(0.1)
        faults = find_faults([answer for sent in sending for answer in sent.result()])
    if bad := [answer.status_code for answer in answers if answer.status_code != 200]:
        faults.append(f"a photograph got {bad}")
    return faults


def describe_slow(name: str, make: Callable[[], bytes]) -> Attack:
    """An attack with two slow pictures, each of which may use its deadline and a second."""
    return Attack(
        name,
        partial(send_slow, make),
        max_cpu_seconds=2 * (DEADLINE_MS / 1000 + 1) + SPARE_CPU_SECONDS,
        settings={"request_timeout_ms": DEADLINE_MS},
    )


ATTACKS = (
    Attack("picture drawn in its own size", draw_large),
    Attack("batch of tiny pictures drawn large", draw_batch),
    Attack("batch of noise drawn large", draw_noise),
    Attack("large pictures of all kinds", mix_large),
    Attack("texts of a PNG", partial(send_batch, lambda: files.write_texts(60, 1_000_000))),
    Attack("segments of a JPEG", partial(send_copies, lambda: files.write_segments(2_500_000))),
    Attack("chunks of a PNG", partial(
        send_copies, lambda: files.insert_chunks([files.chunk(b"teSt", b"")] * 800_000),
    )),
    Attack("colour profiles of a PNG", partial(send_copies, lambda: files.write_profiles(9000))),
    Attack("fill bytes of a JPEG", partial(
        send_copies, lambda: files.write_fill_bytes(10_000_000),
    )),
    Attack("comments of a GIF", partial(send_copies, lambda: files.write_comments(10_000_000))),
    Attack("long list in EXIF", partial(send_copies, lambda: files.write_long_tag(8_000_000))),
    Attack("tiny TIFF with a huge tile", partial(
        send_copies, lambda: files.write_fax_tile((400_000, 28_000)),
    )),
    Attack("picture with a side of millions of pixels", partial(
        send_copies, lambda: files.write_flat_png(1, 5_990_000),
    )),
    Attack("codes of a lossless WebP", partial(
        send_copies, lambda: files.write_code_groups(1024, 65_536),
    )),
    Attack("AVIF larger than its header says", partial(
        send_copies, lambda: files.write_larger_avif((9000, 7000), (64, 64)),
    )),
    Attack("HEIC larger than its header says", partial(
        send_copies, lambda: files.write_larger_heic((7000, 7000), (64, 64)),
    )),
    Attack("frames of an AVIF", partial(send_copies, lambda: files.write_avif_frames(2_500_000))),
    Attack("TIFF with tags of wrong types", send_wrong_types),
    Attack("fill bytes and scans", partial(
        take_decoders, lambda: files.write_slow_scans(2000, 15_000, b"\xff"),
    ), settings={"request_timeout_ms": 20_000}),
    Attack("fill bytes that take long", partial(
        take_decoders, lambda: files.write_fill_bytes(10_000_000), connections=6,
    )),
    Attack("pictures that need all memory", crowd_room, settings={"request_timeout_ms": 10_000}),
    Attack("pictures that wait for all memory", keep_room, settings={"request_timeout_ms": 4000}),
    Attack("batches that fill the queue", take_places),
    describe_slow("TIFF with one tile many times", lambda: files.write_tiles(
        40, (16, 4_000_000), (640, 16),
    )),
    describe_slow("run-length encoded BMP", lambda: files.write_run_lengths(25_000_000, 2)),
    describe_slow("progressive JPEG of many scans", lambda: files.write_scans(4096, 20_000)),
    describe_slow("JPEG whose scans follow a comment like its end", lambda: files.write_scans(
        4096, 20_000, b"\xff\xd9",
    )),
)  # fmt: skip
