"""The measurements: the figures of each case, server and round, stored as JSON."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Sample:
    """One measurement of the server `who` in `case`, in one round."""

    case: str
    who: str
    clients: int
    figures: dict[str, float]
    round: int = 0
    fault: str = ""  # the first wrong answer


@dataclass(frozen=True)
class Spread:
    """The median, the smallest and the largest value of the rounds."""

    middle: float
    low: float
    high: float

    def format(self, form: Callable[[float], str]) -> str:
        """The values as text. A single round has no spread."""
        if self.low == self.high:
            return form(self.middle)
        return f"{form(self.middle)} ({form(self.low)}–{form(self.high)})"  # noqa: RUF001


def spread(values: Iterable[float]) -> Spread:
    """The spread of at least one value."""
    values = list(values)
    return Spread(median(values), min(values), max(values))


class Results:
    """All samples of one run and a description of the machine."""

    def __init__(self, about: dict[str, Any], samples: Iterable[Sample] = ()) -> None:
        self.about = about
        self.samples = list(samples)

    def by_round(self, case: str, who: str, clients: int, figure: str) -> dict[int, float]:
        """One figure in each round that has it."""
        return {
            sample.round: sample.figures[figure]
            for sample in self.samples
            if (sample.case, sample.who, sample.clients) == (case, who, clients)
            and figure in sample.figures
        }

    def find(self, case: str, who: str, clients: int, figure: str) -> Spread | None:
        """The spread of one figure over the rounds; None if it was not measured."""
        values = self.by_round(case, who, clients, figure)
        return spread(values.values()) if values else None

    def names(self, case: str) -> list[str]:
        """The servers measured in a case, in the order of the run."""
        return list(dict.fromkeys(sample.who for sample in self.samples if sample.case == case))

    def write(self, path: Path) -> None:
        """Write JSON. An interrupted run leaves the last complete file."""
        content = {"about": self.about, "samples": [asdict(sample) for sample in self.samples]}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(content, indent=1))
        partial.rename(path)


def read_results(path: Path) -> Results:
    """Read what `Results.write` wrote."""
    content = json.loads(path.read_text())
    return Results(content["about"], [Sample(**sample) for sample in content["samples"]])
