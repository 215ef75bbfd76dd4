"""What was measured: one figure sheet for each case, server and round, kept as JSON."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass
class Sample:
    """One measurement of `case` by `who` with so many clients, in one round."""

    case: str
    who: str
    clients: int
    figures: dict[str, float]
    round: int = 0
    fault: str = ""  # the first answer that was wrong


@dataclass(frozen=True)
class Spread:
    """A median with the least and the most of the rounds."""

    middle: float
    low: float
    high: float

    def tell(self, form: Callable[[float], str]) -> str:
        """As text, in which one round has no spread."""
        if self.low == self.high:
            return form(self.middle)
        return f"{form(self.middle)} ({form(self.low)}–{form(self.high)})"  # noqa: RUF001


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    values = list(values)
    return Spread(median(values), min(values), max(values))


class Results:
    """All samples of one run, and where it ran."""

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
        """One figure over the rounds; None where it was not measured."""
        values = self.by_round(case, who, clients, figure)
        return spread(values.values()) if values else None

    def names(self, case: str) -> list[str]:
        """Who was measured in a case, in the order of the run."""
        return list(dict.fromkeys(sample.who for sample in self.samples if sample.case == case))

    def write(self, path: Path) -> None:
        """As JSON; a cut-off run leaves the last whole file."""
        content = {"about": self.about, "samples": [asdict(sample) for sample in self.samples]}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(content, indent=1))
        beside.rename(path)


def read_results(path: Path) -> Results:
    """What `Results.write` wrote."""
    content = json.loads(path.read_text())
    return Results(content["about"], [Sample(**sample) for sample in content["samples"]])
