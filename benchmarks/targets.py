"""The targets: what is measured, and the values that it must reach.

The median of the rounds counts, and the spread is shown.
"""

from dataclasses import dataclass
from typing import Literal

from benchmarks.contenders import OURS_BY_DEFAULT
from benchmarks.ours import BESIDE
from benchmarks.ratios import (
    Find,
    added_latency,
    best,
    beyond_empty,
    compare_cases,
    cost_of_maps,
    divide,
    find_precision,
    in_8_bits,
    open_tail,
    over_bound,
    over_rivals,
    tail_over_rival,
    take,
)
from benchmarks.samples import Results, Spread, spread


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    what: str
    sense: Literal["≥", "≤"]
    bar: float
    unit: str  # x is a ratio
    find: Find

    def judge(self, results: Results) -> tuple[Spread, bool] | None:
        """The spread and whether its median reaches the target; None if it was not measured."""
        values = self.find(results)
        if not values:
            return None
        measured = spread(values.values())
        middle = measured.middle
        return measured, middle >= self.bar if self.sense == "≥" else middle <= self.bar


TARGETS = (
    Target("500x375, 8 clients: served / bound", "≥", 0.95, "x", over_bound("photo", 8)),
    Target("500x375, 32 clients: served / bound", "≥", 0.95, "x", over_bound("photo", 32)),
    Target("U-Net 256x256, 8 clients: served / bound", "≥", 0.95, "x", over_bound("mask", 8)),
    Target("U-Net 256x256, 32 clients: served / bound", "≥", 0.95, "x", over_bound("mask", 32)),
    Target("U-Net in process: time with a map / without", "≤", 1.6, "x", cost_of_maps("mask")),
    Target("500x375, 1 client, against the best other", "≥", 0.97, "x", over_rivals("photo", 1)),
    Target("500x375, 8 clients, against the best other", "≥", 0.97, "x", over_rivals("photo", 8)),
    Target("500x375, 32 clients, against the best other", "≥", 0.97, "x", over_rivals("photo", 32)),
    Target("500x375, 8 clients: p99 over the best other's", "≤", 1, "x", tail_over_rival(8)),
    Target("500x375, 32 clients: p99 over the best other's", "≤", 1, "x", tail_over_rival(32)),
    Target(
        "2000x1500, 32 clients, against the best other", "≥", 1.45, "x", over_rivals("large", 32)
    ),
    Target(
        "by default: 500x375, 1 client, against the best other",
        "≥",
        1.6,
        "x",
        over_rivals("photo", 1, who=OURS_BY_DEFAULT),
    ),
    Target(
        "by default: 500x375, 32 clients, against the best other",
        "≥",
        1.7,
        "x",
        over_rivals("photo", 32, who=OURS_BY_DEFAULT),
    ),
    Target(
        "by default: 500x375, 32 clients: p99 over the best other's",
        "≤",
        1,
        "x",
        tail_over_rival(32, OURS_BY_DEFAULT),
    ),
    Target(
        "by default: 500x375, 32 clients, against FastAPI in OpenVINO",
        "≥",
        0.97,
        "x",
        over_rivals("photo", 32, "fastapi openvino", OURS_BY_DEFAULT),
    ),
    Target(
        "digits, 32 clients, against FastAPI x2",
        "≥",
        1.8,
        "x",
        over_rivals("digit", 32, "fastapi x2"),
    ),
    Target(
        "digits beside ResNet-18, 32 clients, against FastAPI x2",
        "≥",
        1.2,
        "x",
        lambda r: divide(take(r, BESIDE, 32), best(r, "digit", 32, ["fastapi x2"])),
    ),
    Target(
        "digits, 1 client, against FastAPI x2",
        "≥",
        1.25,
        "x",
        over_rivals("digit", 1, "fastapi x2"),
    ),
    Target("digits, 32 clients, against mosec", "≥", 0.6, "x", over_rivals("digit", 32, "mosec")),
    Target(
        "digits, 32 clients: server CPU a request",
        "≤",
        0.22,
        "ms",
        lambda r: take(r, "digit", 32, "server_cpu_ms"),
    ),
    Target(
        "digits by batches of 32 over mosec's single ones",
        "≥",
        1,
        "x",
        lambda r: divide(
            take(r, "digit batches of 32", 4, "images"),
            best(r, "digit", 32, [name for name in r.names("digit") if "mosec" in name]),
        ),
    ),
    Target("digit, 1 client: p50 beyond in process", "≤", 0.4, "ms", added_latency("digit")),
    Target("500x375, 1 client: p50 beyond in process", "≤", 0.4, "ms", added_latency("photo")),
    Target("gradcam / predict, JSON", "≥", 0.95, "x", compare_cases("json", "predict")),
    Target("gradcam / predict, JPEG", "≥", 0.80, "x", compare_cases("jpeg", "predict")),
    Target("gradcam / predict, PNG", "≥", 0.50, "x", compare_cases("png", "predict")),
    Target("gradcam, 5 targets / 1", "≥", 0.90, "x", compare_cases("5 targets", "1 target")),
    Target(
        "gradcam in process: ONNX / pytorch-grad-cam",
        "≥",
        3,
        "x",
        lambda r: divide(
            take(r, "explaining in process", 8, who="onnx"),
            take(r, "explaining in process", 8, who="torch"),
        ),
    ),
    Target(
        "p99 of predict among 20 % gradcam (JSON) / alone",
        "≤",
        1.25,
        "x",
        compare_cases("mixed json", "predict", "p99"),
    ),
    Target(
        "p99 of predict among 20 % gradcam (PNG) / alone",
        "≤",
        1.25,
        "x",
        compare_cases("mixed png", "predict", "p99"),
    ),
    Target(
        "ResNet-18 in 8 bits / in 32, in process",
        "≥",
        2,
        "x",
        lambda r: divide(find_precision(r, "int8"), find_precision(r, "fp32")),
    ),
    Target("… its accuracy, less that in 32 bits", "≥", -0.5, "points", in_8_bits("points")),
    Target("… its maps beside those in 32 bits, cosine", "≥", 0.97, "", in_8_bits("cosine")),
    Target(
        "digits, open loop at 80 %: p99 / idle p50", "≤", 4, "x", open_tail("digit", "paced 80 %")
    ),
    Target(
        "500x375, open loop at 80 %: p99 / idle p50", "≤", 4, "x", open_tail("photo", "paced 80 %")
    ),
    Target(
        "500x375, random gaps at 80 %: p99 / idle p50",
        "≤",
        5,
        "x",
        open_tail("photo", "poisson 80 %"),
    ),
    Target(
        "start to ready beyond an empty BentoML service's",
        "≤",
        1,
        "s",
        beyond_empty("start", 0, "seconds"),
    ),
    Target(
        "a worker's memory beyond an empty BentoML worker's",
        "≤",
        250,
        "MB",
        beyond_empty("photo", 32, "worker_mb"),
    ),
)
