"""The shapes of the Open Inference Protocol: what a request may say, and what the answers are.

What validates them here also describes them in OpenAPI. Knows no values and no model.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, Field, StrictBool, StrictInt, field_validator
from typing_extensions import TypeAliasType, TypedDict

MAX_TENSORS = 16
Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class _Parameters(BaseModel):
    """What is not known is passed over, but data elsewhere can't be."""

    shared_memory_region: Any = None

    @field_validator("shared_memory_region")
    @classmethod
    def _refuse(cls, _: object) -> None:
        raise ValueError(
            "it should be left out: shared memory is not served here, send the data itself"
        )


class InputParameters(_Parameters):
    """How an input is sent."""

    binary_data_size: Annotated[
        Count | None, Field(description="How many bytes of it follow the JSON")
    ] = None


class OutputParameters(_Parameters):
    """How an output is wanted."""

    binary_data: Annotated[
        StrictBool | None, Field(description="In binary, after the JSON; else as the call says")
    ] = None
    classification: Annotated[
        Count, Field(description="So many of the highest as `value:index:label` instead")
    ] = 0


class CallParameters(BaseModel):
    """What holds for all outputs."""

    binary_data_output: Annotated[
        StrictBool, Field(description="All outputs in binary, where they don't say")
    ] = False


class InputTensor(BaseModel):
    """One input; `data` is what JSON says, or the bytes that were sent in its stead."""

    name: str
    datatype: str
    shape: Annotated[list[Count], Field(max_length=8)]
    parameters: InputParameters = InputParameters()
    data: Annotated[
        Any, Field(description="The values in row-major order, flat or nested; BYTES in base64")
    ] = None


class WantedOutput(BaseModel):
    """One output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferCall(BaseModel):
    """A request for inference."""

    id: Annotated[str | None, Field(description="Echoed in the answer")] = None
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[
        list[WantedOutput], Field(max_length=MAX_TENSORS, description="Those wanted; none is all")
    ] = []
    parameters: CallParameters = CallParameters()

    @field_validator("id")
    @classmethod
    def _check_text(cls, told: str | None) -> str | None:
        if told is not None and told != told.encode(errors="ignore").decode():
            raise ValueError("it should be text: half a surrogate pair is none")
        return told


class ProtocolError(TypedDict):
    """A refusal, in one sentence."""

    error: str


class ServerMetadata(TypedDict):
    """What this server is and can."""

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
    """A tensor that a model takes or gives; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(TypedDict):
    """The same as Triton configures it: without N."""

    name: str
    data_type: str
    dims: list[int]
    optional: NotRequired[bool]


class ModelConfig(TypedDict):
    """A model as Triton would configure it."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: dict[str, list[int]]
    instance_group: list[dict[str, Any]]


class IndexEntry(TypedDict):
    """One version in the tree."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


Index = TypeAliasType("Index", list[IndexEntry])


class AnsweredTensor(TypedDict):
    """One output: its `data`, or how many bytes of it follow the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[float] | list[str]]
    parameters: NotRequired[dict[str, int]]


class InferAnswer(TypedDict):
    """The outputs asked for, in the order asked."""

    id: NotRequired[str]
    model_name: str
    model_version: str
    outputs: list[AnsweredTensor]
