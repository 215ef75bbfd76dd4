"""The labels of a model: found by name or by a similar name, and measured.

A model may have 100,000 labels. So the index is made in a thread when the model is loaded, and a
search compares only a few labels. Knows texts only.
"""

from bisect import bisect_left
from collections.abc import Sequence
from difflib import get_close_matches
from heapq import nlargest
from itertools import accumulate, pairwise

from pydantic_core import to_json

MAX_COMPARED = 100  # characters of an unknown label
MAX_PAIRS = 8  # of its letters
MAX_CANDIDATES = 16
MAX_SEARCHED = 1000  # labels: those next to it in the alphabet, if the model has more


class LabelIndex:
    """The index of the labels of one model."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.indices = {label: index for index, label in enumerate(labels)}
        self._by_alphabet = sorted(labels, key=str.lower)
        sizes = sorted((len(to_json(label)) for label in labels), reverse=True)
        self._longest = [0, *accumulate(sizes)]  # bytes of the 0, 1, 2, … longest labels

    def count_bytes(self, count: int) -> int:
        """Return the bytes that `count` of the labels have in JSON at most."""
        return self._longest[min(count, len(self._by_alphabet))]

    def find_similar(self, label: str) -> list[str]:
        """Return up to three similar labels.

        Only the few that share most pairs of letters are compared: to compare a label with all of a
        thousand would stop the event loop for a tenth of a second.
        """
        lower = label[:MAX_COMPARED].lower()
        pairs = list(dict.fromkeys(map("".join, pairwise(lower))))
        pairs = pairs[:: len(pairs) // MAX_PAIRS + 1]
        place = bisect_left(self._by_alphabet, lower, key=str.lower)
        start = max(0, min(place - MAX_SEARCHED // 2, len(self._by_alphabet) - MAX_SEARCHED))
        places = range(start, min(start + MAX_SEARCHED, len(self._by_alphabet)))
        near = [
            self._by_alphabet[other] for other in sorted(places, key=lambda at: abs(at - place))
        ]
        nearest = nlargest(
            MAX_CANDIDATES, near, key=lambda other: sum(map(other.lower().__contains__, pairs))
        )
        short = {other[:MAX_COMPARED]: other for other in nearest}
        matches = get_close_matches(label[:MAX_COMPARED], short, n=3, cutoff=0.5)
        return [short[match] for match in matches]
