"""One load on one server: what its clients saw, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import MAX_CONNECTIONS, Ask, Load, send_load
from benchmarks.samples import Sample
from benchmarks.server import Server

WARMUP = 0.2  # of a load's time


@dataclass(frozen=True)
class Trial:
    """A server under the name of its figures."""

    server: Server
    who: str
    seconds: float

    def load(self, case: str, asks: Sequence[Ask], clients: int, images: int = 1) -> Sample:
        """A closed loop of so many clients; each request carries so many images."""
        load, cost = self._send(asks, clients, 0, poisson=False)
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

    def pace(self, case: str, asks: Sequence[Ask], rate: float, poisson: bool = False) -> Sample:
        """An open loop at so many requests a second; latency from when each was due."""
        load, cost = self._send(asks, MAX_CONNECTIONS, rate, poisson)
        figures = {"rate": rate, "rps": load.answers / self.seconds, **cost}
        if latency := load.kinds.get(0):
            figures |= {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
        return Sample(case, self.who, 0, figures, fault=load.fault)

    def _send(
        self, asks: Sequence[Ask], clients: int, rate: float, poisson: bool
    ) -> tuple[Load, dict[str, float]]:
        self.server.forget_peaks()
        cpu = self.server.read_cpu()
        warmup = WARMUP * self.seconds
        load = send_load(self.server.port, asks, clients, self.seconds, warmup, rate, poisson)
        spent = self.server.read_cpu() - cpu
        finished, peaks = max(load.finished, 1), self.server.read_peaks()
        return load, {
            "errors": load.errors,
            "server_cpu_ms": spent / finished * 1000,
            "client_cpu_ms": load.cpu / finished * 1000,
            "peak_mb": sum(peaks),
            "worker_mb": peaks[0],
        }
