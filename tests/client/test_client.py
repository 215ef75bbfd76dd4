"""Programs get typed answers from a real service, and one exception for each kind of error."""

import asyncio
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import client.flows
from client import (
    Answer,
    AsyncClient,
    BadRequest,
    Client,
    ConnectionFailed,
    InvalidPicture,
    ModelNotFound,
    NotReady,
    Overloaded,
    ServiceFailure,
    SightglassError,
    Timeout,
    TooLarge,
    Unauthorized,
    UnknownLabel,
)
from client.pictures import Picture
from tests.attacks.run import are_all_ready
from tests.contract.wire import connect, count_images
from tests.reliability.photographs import make_request
from tests.server import Server, wait_until
from tests.service.quadrants_model import encode, light, write_model
from tests.warm_process import start_worker

LABEL = "top right"
URL = "http://service"


@pytest.fixture(scope="module")
def caller(server: Server) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened


def make_kinds(folder: Path) -> dict[str, Picture]:
    content = encode(light(1))
    image = Image.open(io.BytesIO(content))
    (folder / "picture.png").write_bytes(content)
    return {
        "bytes": content,
        "path": folder / "picture.png",
        "name": str(folder / "picture.png"),
        "Pillow": image,
        "CMYK": image.convert("CMYK"),
        "array": np.asarray(image.convert("RGB")),
        "gray array": np.asarray(image.convert("L"))[:, :, None],
    }


def test_a_picture_may_be_a_file_or_bytes_or_pillows_or_an_array(
    caller: Client, tmp_path: Path
) -> None:
    for kind, picture in make_kinds(tmp_path).items():
        assert caller.predict(picture).top.label == LABEL, kind


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2), np.uint8), np.zeros((0, 4), np.uint8)])
def test_an_array_of_another_shape_is_refused(caller: Client, array: Picture) -> None:
    with pytest.raises(ValueError, match="shape"):
        caller.predict(array)


@pytest.mark.parametrize("picture", [np.zeros((4, 4)), 7])
def test_what_is_no_picture_is_refused(caller: Client, picture: Picture) -> None:
    with pytest.raises(TypeError, match="uint8"):
        caller.predict(picture)


def test_an_explanation_has_its_map_and_what_was_asked_for(caller: Client) -> None:
    answer = caller.explain(encode(light(1)), target=LABEL, view="overlay", verify=True, top_k=1)
    [found] = answer.explanations
    assert (found.target.label, len(answer.predictions)) == (LABEL, 1)
    assert np.asarray(found.cam).ndim == 2
    assert found.picture
    assert Image.open(io.BytesIO(found.picture)).format == "PNG"
    assert found.verification
    assert found.verification.probability is not None
    assert 0 <= found.verification.probability <= 1
    assert (found.region, answer.classes, answer.mask) == (None, [], None)
    two = caller.explain(encode(light(1)), target=[LABEL, "top left"]).explanations
    assert [explanation.target.label for explanation in two] == [LABEL, "top left"]


def test_a_heatmap_is_a_picture_with_its_labels(caller: Client) -> None:
    heatmap = caller.draw(encode(light(1)), "image/webp", size=64)
    assert Image.open(io.BytesIO(heatmap.content)).format == "WEBP"
    assert (heatmap.media_type, heatmap.model) == ("image/webp", "quadrants/1")
    assert heatmap.target_label == heatmap.predicted_label == LABEL
    assert heatmap.target_probability is not None
    assert 0 < heatmap.target_probability <= 1


def test_models_and_readiness(caller: Client) -> None:
    assert caller.is_ready()
    assert [model["name"] for model in caller.list_models()] == ["quadrants"]
    with Client("http://127.0.0.1:9", max_wait=0) as nobody:
        assert not nobody.is_ready()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda c: c.predict(b"text"), InvalidPicture),
        (lambda c: c.predict(encode(light(1)), model="nobody"), ModelNotFound),
        (lambda c: c.predict(encode(light(1)), top_k=-1), BadRequest),
        (lambda c: c.explain(encode(light(1)), target="nothing"), UnknownLabel),
        (lambda c: c.draw(encode(light(1)), "image/gif"), BadRequest),
        (lambda c: c.predict(bytes(11_000_000)), TooLarge),
    ],
)
def test_each_kind_of_error_is_an_exception_with_the_services_sentence(
    caller: Client, call: Callable[[Client], object], kind: type[SightglassError]
) -> None:
    with pytest.raises(kind) as caught:
        call(caller)
    assert str(caught.value)[0].isupper() or str(caught.value)[0] == "'"
    assert caught.value.status
    assert caught.value.request_id


def test_a_batch_is_cut_to_what_the_service_takes(quadrants_dir: Path, tmp_path: Path) -> None:
    """150 pictures where 64 fit a request, and then only 20 the queue."""
    picture = encode(light(1))
    with start_worker(quadrants_dir, tmp_path, max_queue_size=20, api_keys="secret") as server:
        server.wait_ready()
        with Client(server.url) as stranger, pytest.raises(Unauthorized):
            stranger.predict(picture)
        with Client(server.url, "secret") as caller:
            results = caller.predict_many([*[picture] * 70, b"text", *[picture] * 79])
        assert len(results) == 150
        assert isinstance(results.pop(70), InvalidPicture)
        assert {r.top.label for r in results if isinstance(r, Answer)} == {LABEL}
        assert not [r for r in results if isinstance(r, SightglassError)]
        explained = Client(server.url, "secret").explain_many([picture] * 2)
        assert [len(r.explanations) for r in explained if isinstance(r, Answer)] == [1, 1]


def test_batches_are_cut_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.flows, "BATCH_BYTES", 10)
    sizes = [
        [len(p) for p in b] for b in client.flows.cut(iter([b"1" * n for n in (4, 4, 4, 20, 1)]))
    ]
    assert sizes == [[4, 4], [4], [20], [1]]


def test_an_overloaded_service_is_waited_for(tmp_path: Path) -> None:
    """Eight at once while others hold all places: refused, and all answered in the end.

    The others wait for a batch of eight, which neither model has. Once they leave, ours are one.
    """
    models, picture = tmp_path / "models", encode(light(1))
    for name in ("ours", "other"):
        write_model(models / name / "1" / "model.onnx")
    settings = {"max_queue_size": 8, "max_batch_size": 8, "max_queue_delay_ms": 60_000}
    settings |= {"request_timeout_ms": 60_000}
    with start_worker(models, tmp_path, default_model="ours", **settings) as server:
        server.wait_ready()
        wait_until(lambda: are_all_ready(server))
        with Client(server.url) as caller, ThreadPoolExecutor(8) as pool:
            with ExitStack() as holders:
                for model in ["other"] * 7 + ["ours"]:
                    holder = holders.enter_context(connect(server))
                    holder.sendall(make_request(f"/predict?model={model}", picture))
                wait_until(lambda: count_images(server) == 8)
                with Client(server.url, max_wait=0) as hasty, pytest.raises(Overloaded):
                    hasty.predict(picture)
                asked = [pool.submit(caller.predict, picture) for _ in range(8)]
                wait_until(lambda: server.read_log().count('"status":429') >= 9)
            assert {answer.result().top.label for answer in asked} == {LABEL}


def answer_with(status: int, **headers: str) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, text="proxy"))


@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        (answer_with(200), ServiceFailure),
        (answer_with(502), ServiceFailure),
        (answer_with(503, **{"retry-after": "3600"}), ServiceFailure),
    ],
)
def test_an_answer_of_something_else_is_a_failure_of_the_service(
    transport: httpx.MockTransport, kind: type[SightglassError]
) -> None:
    with Client(URL, transport=transport) as caller, pytest.raises(kind, match="not the service's"):
        caller.predict(b"picture")


def test_a_pause_is_bounded_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("client.clients.time.sleep", pauses.append)
    body = {"error": {"code": "not_ready", "message": "Loading.", "request_id": "1"}}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, json=body, headers={"retry-after": "4"})

    with (
        Client(URL, max_wait=10, transport=httpx.MockTransport(answer)) as caller,
        pytest.raises(NotReady, match=r"Loading\."),
    ):
        caller.predict(b"picture")
    assert pauses == [4, 4]


def test_a_pause_of_nothing_does_not_ask_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("client.clients.time.sleep", pauses.append)
    busy = answer_with(429, **{"retry-after": "0"})
    with Client(URL, max_wait=1, transport=busy) as caller, pytest.raises(SightglassError):
        caller.predict(b"picture")
    assert 1 <= len(pauses) <= 10
    assert sum(pauses) <= 1


def test_a_broken_connection_is_tried_once_more_and_a_timeout_is_not() -> None:
    calls: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise httpx.ReadTimeout("") if request.url.path == "/gradcam" else httpx.ReadError("reset")

    with Client(URL, transport=httpx.MockTransport(fail)) as caller:
        with pytest.raises(ConnectionFailed, match="reset"):
            caller.predict(b"picture")
        with pytest.raises(Timeout):
            caller.explain(b"picture")
    assert calls == ["/predict", "/predict", "/gradcam"]


def test_the_same_from_asyncio(server: Server) -> None:
    async def call() -> None:
        picture = encode(light(1))
        async with AsyncClient(server.url) as caller:
            assert await caller.is_ready()
            answers = await asyncio.gather(*(caller.predict(picture) for _ in range(3)))
            assert {answer.top.label for answer in answers} == {LABEL}
            assert (await caller.explain(picture)).explanations
            assert (await caller.draw(picture)).target_label == LABEL
            many = [*await caller.predict_many([picture]), *await caller.explain_many([picture])]
            assert not [result for result in many if isinstance(result, SightglassError)]
            assert await caller.list_models()
            with pytest.raises(InvalidPicture):
                await caller.predict(b"text")

    asyncio.run(call())
