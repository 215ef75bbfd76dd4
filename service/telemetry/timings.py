"""Records how long each image was in which stage, for Server-Timing, log, metrics and traces.

All times come from one clock, `perf_counter`. This module does not know what a stage does.
"""

from service.telemetry import metrics

MAX_SPANS = 256  # of one request: making thousands for a trace would stop the event loop

Interval = tuple[float, float]  # start and end, in seconds of `perf_counter`
Span = tuple[str, float, float, int | None]  # stage, start, end, batch size


class Timings:
    """The stages of the images of one request."""

    __slots__ = ("seconds", "spans")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}  # by stage; of several images the longest
        self.spans: list[Span] = []

    def note(self, stage: str, *parts: Interval, batch_size: int | None = None) -> None:
        """Record that one image was in a stage, in one interval or several."""
        seconds = 0.0
        for started, ended in parts:
            seconds += ended - started
            if len(self.spans) < MAX_SPANS:
                self.spans.append((stage, started, ended, batch_size))
        self.seconds[stage] = max(self.seconds.get(stage, 0.0), seconds)
        metrics.get_stage_histogram(stage).observe(seconds)
