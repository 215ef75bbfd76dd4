"""What the service needs from an engine that runs a model. Another engine would come in here.

Knows the arrays that go in and come out, but no engine and no queue.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import Artifact

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
COMPARE = "compare"  # a trial of OpenVINO that measures both
REGION_RANK = 3  # of an array of targets that have regions


class Outputs(NamedTuple):
    """What a model that classifies answers for one batch."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    cam: NDArray[np.float32]  # (N, T, h, w)
    familiarity: NDArray[np.float32] | None = None  # (N,), if the card judges by it


class MaskOutputs(NamedTuple):
    """What a model that segments answers for one batch."""

    mask: NDArray[np.uint8]  # (N, H, W), the class of each pixel
    probabilities: NDArray[np.float32]  # (N, K, H, W)
    cam: NDArray[np.float32]  # (N, T, h, w)


class Engine(NamedTuple):
    """What runs a model, and why."""

    name: str
    precision: str  # fp32, bf16, fp16, int8 or mixed: of what it computes, not of the file
    speedup: float | None = None  # the speed of OpenVINO over that of onnxruntime, if compared
    reason: str | None = None  # a sentence, if there was a choice


AnyOutputs = Outputs | MaskOutputs
Run = Callable[[NDArray[np.uint8], NDArray[np.int64]], AnyOutputs]


class Session(Protocol):
    """A loaded model."""

    @property
    def provider(self) -> str:
        """The device that it runs on: cpu or cuda."""

    engine: Engine

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes to run before the model is ready; empty if the size does not matter."""

    @property
    def run_inline(self) -> bool:
        """Whether a run is shorter than handing it to a thread would be."""

    @property
    def replicas(self) -> int:
        """How many calls of `run_replica` may run at the same time."""

    @property
    def rows_alone(self) -> bool:
        """Whether a replica runs rows one by one as fast as in a batch."""

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        """Run one batch: `image` [N, H, W, C], `target` [N, T] with -1 for a row's own top-1.

        For a model that segments, `target` is [N, T, 6]: each is a `RegionTarget`.
        """

    def run_replica(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        """Run one batch on one replica; the same as `run` if there is only one."""

    def release_memory(self) -> None:
        """Return the memory that runs took and the next one takes again. None may be running."""


def read_precision(artifact: Artifact) -> str:
    """Return the precision that the card names."""
    return str((artifact.card.model_extra or {}).get("precision", "fp32"))


def describe_onnxruntime(artifact: Artifact) -> Engine:
    """Return how onnxruntime runs a model: weights that are stored in 16 bits become 32."""
    precision = read_precision(artifact)
    return Engine(ONNXRUNTIME, "fp32" if precision == "w16" else precision)
