"""A model on an NVIDIA GPU: batches of a few fixed sizes, bound to memory that stays in place.

A batch size seen for the first time costs a GPU hundreds of milliseconds, and a captured CUDA graph
replays one size at fixed addresses. So rows are padded to the next of a few sizes, each warmed and
captured before the model is ready; what answers for the padding is dropped. Knows nothing of
pictures, queues or HTTP, nor whether there is a GPU: all but capturing works on a CPU as well.
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

from service.artifact.card import TOP_1, Artifact, InvalidArtifact
from service.runtime.batcher import Outputs

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
CAPTURED_TARGETS = (0, 1)  # a prediction and a map; more targets are rare, and run uncaptured
UNCAPTURED = -1  # onnxruntime's "gpu_graph_id" for a run that is neither captured nor replayed
RUNTIMES = ("libcudart.so.13", "libcudart.so.12")


class Tuning(NamedTuple):
    """What may be measured with and without."""

    graphs: bool = True  # captured and replayed, where the whole model lies on the GPU
    bound: bool = True  # memory bound once; else onnxruntime copies arrays back and forth
    nhwc: bool = False  # channels last, as 16-bit convolutions like them


class BoundSession:
    """A loaded graph whose inputs and outputs lie in memory made beforehand, one set a size.

    A captured graph belongs to the thread that captured it, so one thread does everything.
    """

    run_inline = False  # a GPU's run is waited for in a thread
    replicas = 1

    def __init__(
        self, session: ort.InferenceSession, artifact: Artifact, max_batch_size: int, bound: bool
    ) -> None:
        self.provider = "cuda" if session.get_providers()[0] == CUDA else "cpu"
        self._session = session
        self._artefact = artifact
        self.sizes = list_sizes(max_batch_size)  # each to be run before the model is ready
        self._bound = bound
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._pixels: dict[int, _Pixels] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuda")

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        """Run one batch: `image` [N, H, W, C], `target` [N, T], N at most the largest size."""
        run = self._run_bound if self._bound else self._run_plain
        return self._thread.submit(run, image, target).result()

    run_replica = run

    def _run_bound(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        rows, targets = target.shape
        size = next(size for size in self.sizes if size >= rows)
        wide = targets if targets < 2 else 1 << (targets - 1).bit_length()
        if size not in self._pixels:
            self._pixels[size] = _Pixels((size, *image.shape[1:]), self.provider)
        if (size, wide) not in self._batches:
            self._batches[size, wide] = self._make_batch(size, wide)
        answered = self._batches[size, wide].run(image, target)
        logits, probabilities, cam = answered
        return Outputs(logits[:rows], probabilities[:rows], cam[:rows, :targets])

    def _make_batch(self, size: int, targets: int) -> "_Batch":
        captured = targets in CAPTURED_TARGETS
        graph = 1 + len(self._batches) if captured else UNCAPTURED  # 0 is onnxruntime's own
        labels = len(self._artefact.card.labels)
        shapes: dict[str, tuple[int, ...]] = {
            "logits": (size, labels),
            "probabilities": (size, labels),
            "cam": (size, targets, *self._artefact.map_shape),
        }
        pixels = self._pixels[size]
        return _Batch(self._session, pixels, (size, targets), shapes, self.provider, graph)

    def _run_plain(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(UNCAPTURED))
        feed = {"image": image, "target": target}
        return Outputs(*self._session.run(Outputs._fields, feed, options))


class _Pixels:
    """A batch of pictures: a page-locked array to fill, and its place on the device."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        self.staged = np.zeros(shape, np.uint8)  # (N, H, W, C)
        self.value = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, device, 0)
        if device == "cuda":
            pin(self.staged)

    def put(self, image: NDArray[np.uint8]) -> None:
        """Copy the rows over; what was in the others stays, and is ignored."""
        self.staged[: len(image)] = image
        self.value.update_inplace(self.staged)


class _Batch:
    """Inputs and outputs of one size, bound once."""

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
            if 0 not in shape:  # a map of no targets needs no memory
                self._outputs[name] = make(shape, np.float32, device, 0)
                self._binding.bind_ortvalue_output(name, self._outputs[name])
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(
        self, image: NDArray[np.uint8], target: NDArray[np.int64]
    ) -> Iterator[NDArray[np.float32]]:
        """Logits, probabilities and cam of all rows, padding included; the caller's own copies."""
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
    """1, 2, 4, 8 … up to the largest, which need be no power of two."""
    powers = [1 << power for power in range(max_batch_size.bit_length())]
    return tuple(sorted({*powers, max_batch_size}))


def open_bound(
    content: bytes,
    artifact: Artifact,
    max_batch_size: int,
    options: ort.SessionOptions,
    tuning: Tuning | None = None,
) -> BoundSession:
    """The model on the GPU; onnxruntime may put it on the CPU without a word: see `provider`.

    A model that lies on the GPU only in part can't be captured; it then runs without.

    Raises:
        BadArtefact: onnxruntime refuses the graph.
    """
    tuning = tuning or Tuning(nhwc=artifact.raw_card.get("precision") == "fp16")
    provider = {"prefer_nhwc": str(int(tuning.nhwc))}
    capturing = {**provider, "enable_cuda_graph": "1"}
    if tuning.graphs and tuning.bound:
        with suppress(Exception):  # a refusal to capture has no class of its own
            session = ort.InferenceSession(content, options, [(CUDA, capturing), CPU])
            found = BoundSession(session, artifact, max_batch_size, bound=True)
            found.run(*artifact.make_batch(1, 1))  # or refuses as late as here
            return found
    try:
        session = ort.InferenceSession(content, options, [(CUDA, provider), CPU])
    except Exception as fault:  # onnxruntime's exceptions share no base of their own
        raise InvalidArtifact(f"{artifact.path} is refused by onnxruntime: {fault}") from None
    return BoundSession(session, artifact, max_batch_size, tuning.bound)


def pin(array: NDArray[Any]) -> bool:
    """Lock the array's pages until it is gone: a GPU then copies from it by itself, and faster."""
    for name in RUNTIMES:
        with suppress(OSError):
            runtime = ctypes.CDLL(name)
            start = ctypes.c_void_p(array.ctypes.data)
            if runtime.cudaHostRegister(start, ctypes.c_size_t(array.nbytes), 0) == 0:
                weakref.finalize(array, runtime.cudaHostUnregister, start)
                return True
    return False
