"""What a run shows of its progress: one bar for the run, one for the epoch, and a line per epoch.

Where standard error is no terminal there are only the lines. Only the first process shows anything.
"""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from training.fit.distributed import get_rank
from training.fit.scores import PHRASES

T = TypeVar("T")


class Progress:
    """The bars of a run, whose epochs have `batches` each. Used as a context."""

    def __init__(self, epochs: int, batches: int, done: int = 0) -> None:
        self.epochs, self.batches, self.done = epochs, batches, done

    def __enter__(self) -> Self:
        self.hidden = True if get_rank() else None  # None: unless it is a terminal
        total, done = (count * self.batches for count in (self.epochs, self.done))
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
        self.run = tqdm(
            desc="run", total=total, initial=done, disable=self.hidden, bar_format=form, leave=False
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run.close()

    def follow(self, batches: Iterable[T], epoch: int) -> Iterator[T]:
        """The batches of an epoch; both bars move on with each of them."""
        text = f"epoch {epoch}/{self.epochs}"
        for batch in tqdm(
            batches, text, self.batches, disable=self.hidden, leave=False, unit="batch"
        ):
            yield batch
            self.run.update()

    def write(self, line: str) -> None:
        """Print a line above the bars."""
        if not get_rank():
            tqdm.write(line)


def describe_epoch(epoch: int, figures: dict[str, float], measure: str, best: bool) -> str:
    """The line of an epoch, with the measure by which the best one is chosen."""
    chosen = ""
    if measure not in ("val_loss", "val_accuracy"):
        name = PHRASES[measure].removeprefix("validation ")
        chosen = f", {name} {100 * figures[measure]:.2f} %"
    return (
        f"epoch {epoch}: loss {figures['train_loss']:.4f}, validation loss "
        f"{figures['val_loss']:.4f}, accuracy {100 * figures['val_accuracy']:.2f} %{chosen}, "
        f"{figures['seconds']:.0f} s" + (" (best)" if best else "")
    )
