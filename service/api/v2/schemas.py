"""The requests and responses of the Open Inference Protocol. OpenAPI is generated from them.

This module knows no values and no models.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, Field, StrictBool, StrictInt, field_validator
from typing_extensions import TypeAliasType, TypedDict

MAX_TENSORS = 16
MAX_DIMENSIONS = 8
Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class _Parameters(BaseModel):
    """Unknown parameters are ignored, but not shared memory: the data would be missing."""

    shared_memory_region: Any = None

    @field_validator("shared_memory_region")
    @classmethod
    def _reject(cls, _: object) -> None:
        raise ValueError("shared memory should be left out: send the data in the request")


class InputParameters(_Parameters):
    """How an input is encoded."""

    binary_data_size: Annotated[
        Count | None, Field(description="Number of bytes that follow the JSON")
    ] = None


class OutputParameters(_Parameters):
    """How an output is to be encoded."""

    binary_data: Annotated[
        StrictBool | None,
        Field(description="Binary, after the JSON; default: `binary_data_output`"),
    ] = None
    classification: Annotated[
        Count,
        Field(description="Return this many of the highest values as `value:index:label` instead"),
    ] = 0


class CallParameters(BaseModel):
    """The parameters of the whole request."""

    binary_data_output: Annotated[
        StrictBool, Field(description="Binary for all outputs that do not say otherwise")
    ] = False


class InputTensor(BaseModel):
    """One input; `data` is a list in JSON, or the bytes that follow the JSON."""

    name: str
    datatype: str
    shape: Annotated[list[Count], Field(max_length=MAX_DIMENSIONS)]
    parameters: InputParameters = InputParameters()
    data: Annotated[
        Any, Field(description="The values in row-major order, flat or nested; BYTES in base64")
    ] = None


class WantedOutput(BaseModel):
    """One requested output."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferCall(BaseModel):
    """A request for inference."""

    id: Annotated[str | None, Field(description="Repeated in the response")] = None
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[
        list[WantedOutput],
        Field(max_length=MAX_TENSORS, description="The requested outputs; empty: all"),
    ] = []
    parameters: CallParameters = CallParameters()

    @field_validator("id")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        if text is not None and text != text.encode(errors="ignore").decode():
            raise ValueError("text should be valid Unicode, without half a surrogate pair")
        return text


class ProtocolError(TypedDict):
    """An error, in one sentence."""

    error: str


class ServerMetadata(TypedDict):
    """Name, version and extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class Liveness(TypedDict):
    """Whether the process answers."""

    live: bool


class ServerReadiness(TypedDict):
    """Whether requests should be sent here."""

    ready: bool


class ModelReadiness(TypedDict):
    """Whether a model can answer."""

    name: str
    ready: bool


class TensorMetadata(TypedDict):
    """An input or output of a model; -1 means any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(TypedDict):
    """A tensor as in a Triton configuration: without N."""

    name: str
    data_type: str
    dims: list[int]
    optional: NotRequired[bool]


class ModelConfig(TypedDict):
    """A model as in a Triton configuration."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: dict[str, list[int]]
    instance_group: list[dict[str, Any]]


class IndexEntry(TypedDict):
    """One version in the model repository."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


Index = TypeAliasType("Index", list[IndexEntry])


class AnsweredTensor(TypedDict):
    """One output: its `data`, or the number of its bytes that follow the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[float] | list[str]]
    parameters: NotRequired[dict[str, int]]


class AnswerParameters(TypedDict):
    """`warnings` is a text in JSON: for each image a list of warnings, as in other answers."""

    warnings: str


class InferAnswer(TypedDict):
    """The requested outputs, in the order requested."""

    id: NotRequired[str]
    model_name: str
    model_version: str
    parameters: AnswerParameters
    outputs: list[AnsweredTensor]
