"""A few processes that decode pictures whose cost can't be known, kept ready.

A thread can't be stopped, a process can: at the deadline, when the client leaves, or by its own
limits of time and memory. A process that ended is replaced. This module knows which process does
what. What a process does is in `decoder_process.py`.
"""

import sys
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock

from service.errors import InvalidImage, NotReady
from service.imaging.decoding import Picture
from service.inference.decoder_process import (
    Job,
    NeedsMore,
    WornOut,
    receive_result,
    run_decoder,
    send_job,
)
from service.processes import Child, Forks


class Decoding:
    """One job. It may be stopped at any time, from any thread."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks
        self._lock = Lock()
        self._decoder: Child | None = None
        self._seconds_before = 0.0
        self.is_stopped = False
        self.has_killed = False  # perhaps just after the job ended

    def stop(self) -> None:
        """End the process that works on it, or do not start. This may take milliseconds."""
        self.is_stopped = True
        with self._lock:
            if self._decoder:
                self._forks.kill(self._decoder)
                self.has_killed = True

    def measure_cpu_seconds(self) -> float:
        """Return the CPU time that the job has used; 0 while no process works on it."""
        with self._lock:
            if not self._decoder:
                return 0.0
            return self._decoder.measure_cpu_seconds() - self._seconds_before

    def run(self, decoder: Child, job: Job) -> Picture | NeedsMore:
        """Have the process do the job.

        Raises:
            InvalidImage, ImageTooLarge, UnsupportedMediaType: as decoding does.
            WornOut: the process did not take the job.
            EOFError, OSError: the process has ended, or the job was stopped before.
        """
        with self._lock:
            if self.is_stopped:
                raise EOFError
            self._decoder = decoder
            self._seconds_before = decoder.measure_cpu_seconds()
        try:
            send_job(decoder.connection, job)
            return receive_result(decoder.connection)
        finally:
            with self._lock:
                self._decoder = None


class DecoderPool:
    """Processes that decode one picture at a time each. Linux only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.is_started = False
        self._forks = Forks(run_decoder)
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="decoders")
        self._stopper = ThreadPoolExecutor(1, thread_name_prefix="stops")
        self._idle: SimpleQueue[Child | None] = SimpleQueue()

    def start(self) -> None:
        """Start the processes, preferably while this process has only one thread."""
        if sys.platform != "linux":
            return
        self._forks.start()
        for _ in range(self.size):
            self._idle.put(self._forks.fork())
        self.is_started = True

    def submit(self, job: Job) -> tuple["Future[Picture | NeedsMore]", Decoding]:
        """Have the next idle process do the job. Return its future, and the job to stop.

        The future raises NotReady if no process can be started; else as `receive_result`, but
        InvalidImage instead of EOFError and OSError.
        """
        decoding = Decoding(self._forks)
        return self._threads.submit(self._decode, decoding, job), decoding

    def stop(self, decoding: Decoding) -> None:
        """Stop a job, without waiting for it."""
        self._stopper.submit(decoding.stop)

    def _decode(self, decoding: Decoding, job: Job) -> Picture | NeedsMore:
        decoder = self._idle.get()
        has_ended = False
        try:
            if decoding.is_stopped:
                raise CancelledError
            if decoder is None or not decoder.is_waiting():  # it was killed since its last job
                decoder = self._replace(decoder)
            try:
                try:
                    return decoding.run(decoder, job)
                except WornOut:
                    decoder = self._replace(decoder)
                    return decoding.run(decoder, job)
            except (EOFError, OSError, ValueError):
                has_ended = True
                raise InvalidImage(
                    "Decoding the image takes too much time or memory, or it makes the decoder "
                    "crash. Save it again with a usual program."
                ) from None
        except NotReady:
            decoder = None
            raise
        finally:
            if has_ended or decoding.has_killed:
                decoder = self._try_to_replace(decoder)
            self._idle.put(decoder)

    def _try_to_replace(self, decoder: Child | None) -> Child | None:
        """Return None where that fails: the next job tries again."""
        try:
            return self._replace(decoder)
        except NotReady:
            return None

    def _replace(self, decoder: Child | None) -> Child:
        if decoder:
            self._forks.kill(decoder)
            decoder.connection.close()
        try:
            return self._forks.fork()
        except OSError:
            raise NotReady("No process can be started to decode the image. Try again.") from None
