"""Puts one load on one server, and measures its answers and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import MAX_CONNECTIONS, Load, Request, send_load
from benchmarks.samples import Sample
from benchmarks.server import Server

WARMUP = 0.2  # share of the time of a load


@dataclass(frozen=True)
class Trial:
    """A server, and the name under which its figures are stored."""

    server: Server
    who: str
    seconds: float

    def load(self, case: str, requests: Sequence[Request], clients: int, images: int = 1) -> Sample:
        """Run a closed loop of `clients` clients. Each request has `images` images."""
        load, cost = self._send(requests, clients, 0, poisson=False)
        figures = {"rps": load.answers / self.seconds, **cost}
        if images > 1:
            figures["images"] = figures["rps"] * images
        for kind, latency in load.kinds.items():
            name = f"_{kind}" if kind else ""
            figures |= {
                f"p50{name}": latency.p50,
                f"p95{name}": latency.p95,
                f"p99{name}": latency.p99,
            }
        return Sample(case, self.who, clients, figures, fault=load.fault)

    def pace(
        self, case: str, requests: Sequence[Request], rate: float, poisson: bool = False
    ) -> Sample:
        """Run an open loop at `rate` requests per second. Latency counts from the due time."""
        load, cost = self._send(requests, MAX_CONNECTIONS, rate, poisson)
        figures = {"rate": rate, "rps": load.answers / self.seconds, **cost}
        if latency := load.kinds.get(0):
            figures |= {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
        return Sample(case, self.who, 0, figures, fault=load.fault)

    def _send(
        self, requests: Sequence[Request], clients: int, rate: float, poisson: bool
    ) -> tuple[Load, dict[str, float]]:
        self.server.reset_peaks()
        cpu = self.server.read_cpu()
        warmup = WARMUP * self.seconds
        load = send_load(self.server.port, requests, clients, self.seconds, warmup, rate, poisson)
        cpu_seconds = self.server.read_cpu() - cpu
        finished, peaks = max(load.finished, 1), self.server.read_peaks()
        return load, {
            "errors": load.errors,
            "server_cpu_ms": cpu_seconds / finished * 1000,
            "client_cpu_ms": load.cpu / finished * 1000,
            "peak_mb": sum(peaks),
            "worker_mb": peaks[0],
        }
