"""Runs a model on an NVIDIA GPU: batches of a few fixed sizes, bound to memory at fixed addresses.

The first run of a batch size costs a GPU hundreds of milliseconds, and a captured CUDA graph
replays one size at fixed addresses. So rows are padded to the next of a few sizes. Each size is
warmed up and captured before the model is ready, and the outputs for the padding are dropped.
Knows no images, queues or HTTP. Everything except capturing also works on a CPU.
"""

import ctypes
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.artifact.card import FAMILIARITY, TOP_1, Artifact, InvalidArtifact
from service.runtime.engine import Outputs, describe_onnxruntime

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
CAPTURED_TARGETS = (0, 1)  # a prediction, and one map; more targets are rare and not captured
UNCAPTURED = -1  # the "gpu_graph_id" of a run that is neither captured nor replayed
RUNTIMES = ("libcudart.so.13", "libcudart.so.12")


class Tuning(NamedTuple):
    """Optimisations that a benchmark may switch off."""

    graphs: bool = True  # capture and replay CUDA graphs, if the whole model is on the GPU
    bound: bool = True  # bind memory once; otherwise onnxruntime copies arrays both ways
    nhwc: bool = False  # channels last: faster for 16-bit convolutions


class BoundSession:
    """A loaded graph with preallocated inputs and outputs, one set for each batch size.

    A captured graph belongs to the thread that captured it, so one thread does everything.
    """

    run_inline = False  # a thread waits for the GPU
    rows_alone = False
    replicas = 1

    def __init__(
        self, session: ort.InferenceSession, artifact: Artifact, max_batch_size: int, bound: bool
    ) -> None:
        self.provider = "cuda" if session.get_providers()[0] == CUDA else "cpu"
        self.engine = describe_onnxruntime(artifact)
        self._session = session
        self._artifact = artifact
        self.sizes = list_sizes(max_batch_size)  # each is run before the model is ready
        self._bound = bound
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._pixels: dict[int, _Pixels] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuda")

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        """Run one batch: `image` [N, H, W, C], `target` [N, T], N at most the largest size."""
        run = self._run_bound if self._bound else self._run_plain
        return self._thread.submit(run, image, target).result()

    run_replica = run

    def release_memory(self) -> None:
        """Do nothing: what is bound to memory stays there."""

    def _run_bound(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        rows, targets = target.shape
        size = next(size for size in self.sizes if size >= rows)
        padded = targets if targets < 2 else 1 << (targets - 1).bit_length()
        if size not in self._pixels:
            self._pixels[size] = _Pixels((size, *image.shape[1:]), self.provider)
        if (size, padded) not in self._batches:
            self._batches[size, padded] = self._make_batch(size, padded)
        logits, probabilities, cam, *others = self._batches[size, padded].run(image, target)
        rest = (other[:rows] for other in others)
        return Outputs(logits[:rows], probabilities[:rows], cam[:rows, :targets], *rest)

    def _make_batch(self, size: int, targets: int) -> "_Batch":
        captured = targets in CAPTURED_TARGETS
        graph = 1 + len(self._batches) if captured else UNCAPTURED  # 0 is reserved by onnxruntime
        labels = len(self._artifact.card.labels)
        shapes: dict[str, tuple[int, ...]] = {
            "logits": (size, labels),
            "probabilities": (size, labels),
            "cam": (size, targets, *self._artifact.map_shape),
            FAMILIARITY: (size,),
        }
        shapes = {name: shapes[name] for name in self._artifact.card.outputs}
        pixels = self._pixels[size]
        return _Batch(self._session, pixels, (size, targets), shapes, self.provider, graph)

    def _run_plain(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(UNCAPTURED))
        feed = {"image": image, "target": target}
        return Outputs(*self._session.run(self._artifact.card.outputs, feed, options))


class _Pixels:
    """A batch of images: a page-locked array to fill, and its copy on the device."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        self.staged = np.zeros(shape, np.uint8)  # (N, H, W, C)
        self.value = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, device, 0)
        if device == "cuda":
            pin(self.staged)

    def put(self, image: NDArray[np.uint8]) -> None:
        """Copy the rows to the device. The padding rows keep old content, which is ignored."""
        self.staged[: len(image)] = image
        self.value.update_inplace(self.staged)


class _Batch:
    """The inputs and outputs of one batch size, bound once."""

    def __init__(
        self,
        session: ort.InferenceSession,
        pixels: _Pixels,
        target_shape: tuple[int, int],
        shapes: dict[str, tuple[int, ...]],
        device: str,
        graph: int,
    ) -> None:
        make = ort.OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._pixels = pixels
        self._shapes = shapes
        self._staged = np.full(target_shape, TOP_1, np.int64)  # (N, T)
        self._target = make(target_shape, np.int64, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input("image", pixels.value)
        self._binding.bind_ortvalue_input("target", self._target)
        self._outputs: dict[str, Any] = {}
        for name, shape in shapes.items():
            if 0 not in shape:  # maps of no targets need no memory
                self._outputs[name] = make(shape, np.float32, device, 0)
                self._binding.bind_ortvalue_output(name, self._outputs[name])
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(
        self, image: NDArray[np.uint8], target: NDArray[np.int64]
    ) -> Iterator[NDArray[np.float32]]:
        """Return copies of the outputs of all rows, including the padding, in their order."""
        self._pixels.put(image)
        if target.size:
            self._staged[: target.shape[0], : target.shape[1]] = target
            self._target.update_inplace(self._staged)
        self._session.run_with_iobinding(self._binding, self._options)
        return (
            np.array(self._outputs[name].numpy())
            if name in self._outputs
            else np.empty(shape, np.float32)
            for name, shape in self._shapes.items()
        )


def list_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Return 1, 2, 4, 8 … and the largest size, which need not be a power of two."""
    powers = [1 << power for power in range(max_batch_size.bit_length())]
    return tuple(sorted({*powers, max_batch_size}))


def open_bound(
    content: bytes,
    artifact: Artifact,
    max_batch_size: int,
    options: ort.SessionOptions,
    tuning: Tuning | None = None,
) -> BoundSession:
    """Load the model on the GPU. onnxruntime may silently use the CPU: check `provider`.

    A model that is only partly on the GPU cannot be captured; it then runs without CUDA graphs.

    Raises:
        InvalidArtifact: onnxruntime rejects the graph.
    """
    tuning = tuning or Tuning(nhwc=artifact.raw_card.get("precision") == "fp16")
    provider = {"prefer_nhwc": str(int(tuning.nhwc))}
    capturing = {**provider, "enable_cuda_graph": "1"}
    if tuning.graphs and tuning.bound:
        with suppress(Exception):  # a failed capture has no exception class of its own
            session = ort.InferenceSession(content, options, [(CUDA, capturing), CPU])
            captured = BoundSession(session, artifact, max_batch_size, bound=True)
            captured.run(*artifact.make_batch(1, 1))  # the capture may fail as late as here
            return captured
    try:
        session = ort.InferenceSession(content, options, [(CUDA, provider), CPU])
    except Exception as exc:  # onnxruntime's exceptions have no common base class
        raise InvalidArtifact(f"{artifact.path} is rejected by onnxruntime: {exc}") from None
    return BoundSession(session, artifact, max_batch_size, tuning.bound)


def pin(array: NDArray[Any]) -> bool:
    """Lock the array's pages while it exists, so that the GPU copies from it directly and faster.

    Returns whether they were locked.
    """
    for name in RUNTIMES:
        with suppress(OSError):
            runtime = ctypes.CDLL(name)
            start = ctypes.c_void_p(array.ctypes.data)
            if runtime.cudaHostRegister(start, ctypes.c_size_t(array.nbytes), 0) == 0:
                weakref.finalize(array, runtime.cudaHostUnregister, start)
                return True
    return False
