"""The Open Inference Protocol (`/v2`): the calls of Triton's and KServe's clients.

Its rows share queue, limits and batches with everybody's. Knows which tensors a model takes and
gives; how they are written is `tensors`'.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import metrics
from service.admission import Admission
from service.answers import check_index, rank
from service.batcher import TOP_1, Answer
from service.calls import admit, answer_json, find_model, read_body
from service.classifier import Classifier, Timings
from service.compression import pack, unpack
from service.errors import BadRequest
from service.exchange import ClientWatch, Request, Response
from service.explanation import is_empty
from service.form import JSON_TYPE
from service.repository import Model, Repository
from service.schemas import MAX_BATCH_IMAGES, MAX_TARGETS
from service.settings import Settings
from service.status import Status
from service.tensors import (
    BYTES,
    InferCall,
    InputTensor,
    OutputTensor,
    WantedOutput,
    read_array,
    read_call,
    read_elements,
    write_answer,
)

SERVER = {
    "name": "sightglass",
    "version": "1",
    "extensions": ["binary_tensor_data", "classification", "model_configuration"],
}
BINARY_TYPE = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
IMAGE, TARGET = "image", "target"
SCORES = ("logits", "probabilities")  # one value a label, as classification wants
MAP = "cam"
STATES = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE"}
INDEX_BYTES = 4096  # of a body that says nothing we need
Image = bytes | NDArray[np.uint8]  # an encoded picture, or pixels (H, W, C)


class Protocol:
    """Each call is a function of a request."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
        status: Status,
    ) -> None:
        self._max_request_bytes = settings.max_request_bytes
        self._max_images = min(MAX_BATCH_IMAGES, settings.max_queue_size)
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._status = status

    async def server(self, _: Request) -> Response:
        """`GET /v2`: what this server is and can."""
        return answer_json(SERVER)

    async def live(self, _: Request) -> Response:
        """`GET /v2/health/live`: the process answers."""
        return answer_json({"live": True})

    async def ready(self, _: Request) -> Response:
        """`GET /v2/health/ready`: whether requests should be sent here."""
        is_ready = not self._status.reasons_not_ready()
        return answer_json({"ready": is_ready}, 200 if is_ready else 503)

    async def index(self, request: Request) -> Response:
        """`POST /v2/repository/index`: every version in the tree."""
        await request.read_body(INDEX_BYTES, lambda _: None)
        names = self._repository.names()
        entries = [(name, self._repository.describe(name)["versions"]) for name in names]
        return answer_json(
            [
                {
                    "name": name,
                    "version": version["version"],
                    # A version that failed to load anew goes on being served as it was.
                    "state": "READY" if version["provider"] else STATES[version["state"]],
                    "reason": version["reason"] or "",
                }
                for name, versions in entries
                for version in versions
            ]
        )

    async def model(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>`: the tensors it takes and gives."""
        model = self._find(request, name, version)
        versions = self._repository.describe(name)["versions"]
        return answer_json(
            {
                "name": name,
                "versions": [told["version"] for told in versions if told["provider"]],
                "platform": "onnxruntime_onnx",
                "inputs": _describe_tensors(describe_inputs(model)),
                "outputs": _describe_tensors(describe_outputs(model)),
            }
        )

    async def model_ready(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>/ready`: whether it can answer."""
        self._find(request, name, version)
        return answer_json({"name": name, "ready": True})

    async def config(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>/config`: the same as a Triton configuration."""
        model = self._find(request, name, version)
        inputs, outputs = describe_inputs(model), describe_outputs(model)
        return answer_json(
            {
                "name": name,
                "platform": "onnxruntime_onnx",
                "backend": "onnxruntime",
                "max_batch_size": self._max_images,  # of one request
                "input": [
                    entry | {"optional": entry["name"] == TARGET}
                    for entry in _configure_tensors(inputs)
                ],
                "output": _configure_tensors(outputs),
                "dynamic_batching": {"preferred_batch_size": [model.batcher.max_batch_size]},
                "instance_group": [{"kind": _describe_device(model), "count": 1}],
            }
        )

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        """`POST /v2/models/<name>/infer`: N pictures, each a row among everybody's."""
        model = self._find(request, name, version)
        limit = self._max_request_bytes
        with admit(request, self._admission, limit) as slot:
            packed = await read_body(request, slot, limit)
            encoding = request.header(b"content-encoding")
            body = await unpack(packed, encoding, limit, slot.add_body)
            call = read_call(body, request.header(JSON_LENGTH.encode()))
            wanted = read_outputs(call)
            tensors = read_inputs(call)
            images = read_images(tensors[IMAGE], model)
            targets = read_targets(tensors.get(TARGET), len(images), model)
            request.images = request.notes["images"] = len(images)
            slot.add_images(len(images) - 1)
            with ClientWatch(request):
                answers = await self._answer(images, targets, model, request.timings)
            slot.answered = True
        response = make_response(call, wanted, answers, model)
        await pack(response, request.header(b"accept-encoding"))
        return response

    def _find(self, request: Request, name: str, version: str) -> Model:
        return find_model(self._repository, f"{name}/{version}", request)

    async def _answer(
        self, images: Sequence[Image], targets: list[list[int]], model: Model, timings: Timings
    ) -> list[Answer]:
        """One answer an image; one that fails, fails the call, when the others are through."""

        async def answer_one(image: Image, asked: list[int]) -> Answer:
            if isinstance(image, bytes):
                return (await self._classifier.classify(image, model, asked, timings)).answer
            return await self._classifier.run(image, model, asked, timings)

        answers = await asyncio.gather(*map(answer_one, images, targets), return_exceptions=True)
        fault = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        try:
            if fault:
                raise fault
            found = [answer for answer in answers if isinstance(answer, Answer)]
        finally:
            del answers, fault  # a fault that holds this frame must not be held by it: see `Door`
        empty = sum(is_empty(cam) for answer in found for cam in answer.cam)
        metrics.EMPTY_MAPS.labels(model.name).inc(empty)
        return found


def describe_inputs(model: Model) -> dict[str, tuple[str, list[int]]]:
    """Datatype and shape of each input; -1 is any size, the first of them N."""
    wanted = model.artefact.card.input
    return {
        IMAGE: ("UINT8", [-1, wanted.height, wanted.width, wanted.channels]),
        TARGET: ("INT64", [-1, -1]),
    }


def describe_outputs(model: Model) -> dict[str, tuple[str, list[int]]]:
    """The same of each output."""
    scores = ("FP32", [-1, len(model.labels)])
    return {
        **dict.fromkeys(SCORES, scores),
        MAP: ("FP32", [-1, -1, *model.artefact.map_shape]),
    }


def read_inputs(call: InferCall) -> dict[str, InputTensor]:
    """The inputs by name.

    Raises:
        BadRequest: one is unknown, missing or given twice.
    """
    _check_names("input", [tensor.name for tensor in call.inputs], (IMAGE, TARGET))
    tensors = {tensor.name: tensor for tensor in call.inputs}
    if IMAGE not in tensors:
        raise BadRequest(f"The input '{IMAGE}' is missing: send it as UINT8 or {BYTES}.")
    return tensors


def read_outputs(call: InferCall) -> list[WantedOutput]:
    """The outputs asked for, or all.

    Raises:
        BadRequest: one is unknown or given twice, or has no classes to tell.
    """
    _check_names("output", [wanted.name for wanted in call.outputs], (*SCORES, MAP))
    for wanted in call.outputs:
        if wanted.parameters.classification and wanted.name not in SCORES:
            raise BadRequest(
                f"The output '{wanted.name}' has no classes: ask 'classification' of "
                f"{' or '.join(SCORES)}."
            )
    return call.outputs or [WantedOutput(name=name) for name in (*SCORES, MAP)]


def read_images(tensor: InputTensor, model: Model) -> Sequence[Image]:
    """N pictures: pixels [N, H, W, C], or encoded as BYTES [N] (or [N, 1]).

    Raises:
        BadRequest: of another datatype or shape, or not as many values as the shape says.
    """
    datatype, wanted = describe_inputs(model)[IMAGE]
    sizes = tensor.shape[1:]
    if tensor.datatype == BYTES:
        fits = bool(tensor.shape) and sizes in ([], [1])
    else:
        fits = tensor.datatype == datatype and sizes == wanted[1:]
    if not fits or not 1 <= tensor.shape[0] <= MAX_BATCH_IMAGES:
        raise BadRequest(
            f"The input '{IMAGE}' is {tensor.datatype} of shape {tensor.shape}; the model "
            f"'{model.name}' takes {datatype} of shape {['N', *wanted[1:]]} or {BYTES} of shape "
            f"['N'], with N from 1 to {MAX_BATCH_IMAGES}.".replace("'N'", "N")
        )
    if tensor.datatype == BYTES:
        return read_elements(tensor)
    return list(read_array(tensor))  # N times (H, W, C)


def read_targets(tensor: InputTensor | None, rows: int, model: Model) -> list[list[int]]:
    """The class indices to explain for each row; none where the input is left out.

    Raises:
        BadRequest: of another datatype or shape.
        UnknownLabel: an index that the model has not.
    """
    if tensor is None:
        return [[]] * rows
    datatype = "INT64"
    shape = tensor.shape
    fits = len(shape) == 2 and shape[0] == rows and shape[1] <= MAX_TARGETS
    if tensor.datatype != datatype or not fits:
        raise BadRequest(
            f"The input '{TARGET}' is {tensor.datatype} of shape {shape}; for {rows} images it is "
            f"{datatype} of shape [{rows}, T], with T at most {MAX_TARGETS}."
        )
    targets = read_array(tensor)  # (N, T)
    for index in np.unique(targets).tolist():
        if index != TOP_1:
            check_index(index, model)
    found: list[list[int]] = targets.tolist()
    return found


def make_response(
    call: InferCall, wanted: list[WantedOutput], answers: list[Answer], model: Model
) -> Response:
    """The outputs wanted of all rows, each in JSON or binary as it is wanted."""
    outputs = []
    for output in wanted:
        values: Any = np.stack([getattr(answer, output.name) for answer in answers])  # (N, …)
        count = output.parameters.classification
        if count:
            values = [tell_classes(row, count, model.labels) for row in values]
        is_binary = output.parameters.binary_data
        if is_binary is None:
            is_binary = call.parameters.binary_data_output
        outputs.append(OutputTensor(output.name, values, is_binary))
    head = {"model_name": model.name, "model_version": model.version}
    if call.id is not None:
        head = {"id": call.id, **head}
    body, json_length = write_answer(head, outputs)
    if json_length is None:
        return Response(body, JSON_TYPE)
    return Response(body, BINARY_TYPE, headers={JSON_LENGTH: str(json_length)})


def tell_classes(values: NDArray[np.float32], count: int, labels: list[str]) -> list[str]:
    """The highest of one row's `values` (K,), as Triton writes them: `value:index:label`."""
    order = rank(values)[:count].tolist()
    return [f"{values[index]:.6f}:{index}:{labels[index]}" for index in order]


def _check_names(kind: str, names: list[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise BadRequest(f"There is no {kind} '{name}'; there are: {', '.join(known)}.")
        if names.count(name) > 1:
            raise BadRequest(f"The {kind} '{name}' was given {names.count(name)} times.")


def _describe_tensors(tensors: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in tensors.items()
    ]


def _configure_tensors(tensors: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    """Triton's configuration leaves N out."""
    return [
        {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape[1:]}
        for name, (datatype, shape) in tensors.items()
    ]


def _describe_device(model: Model) -> str:
    return "KIND_GPU" if model.provider == "cuda" else "KIND_CPU"
