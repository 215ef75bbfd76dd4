"""When a request's images were in which stage, for Server-Timing, the log, metrics and traces.

All readings are of one clock, `perf_counter`. Knows nothing of what is done in a stage.
"""

from service.telemetry import metrics

Interval = tuple[float, float]  # from, to; in seconds of `perf_counter`
Span = tuple[str, float, float, int | None]  # stage, from, to, size of the batch it was in


class Timings:
    """What one request's images have been through."""

    __slots__ = ("seconds", "spans")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}  # by stage; the longest of several images
        self.spans: list[Span] = []

    def note(self, stage: str, *parts: Interval, batch_size: int | None = None) -> None:
        """One image was in a stage, in one go or in several parts."""
        seconds = 0.0
        for started, ended in parts:
            seconds += ended - started
            self.spans.append((stage, started, ended, batch_size))
        self.seconds[stage] = max(self.seconds.get(stage, 0.0), seconds)
        metrics.time_stage(stage).observe(seconds)
