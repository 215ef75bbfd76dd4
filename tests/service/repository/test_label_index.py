"""Labels are found by similar names among a few of them, and their bytes are counted."""

from service.repository.label_index import MAX_SEARCHED, LabelIndex
from tests.service.quadrants_model import LABELS

MANY = [f"{letter}{number:05d} kind" for letter in "abc" for number in range(20_000)]


def test_the_most_similar_labels_are_suggested() -> None:
    assert LabelIndex(LABELS).find_similar("top lfet")[0] == "top left"
    assert LabelIndex(LABELS).find_similar("§§") == []


def test_of_very_many_labels_the_neighbours_in_the_alphabet_are_compared() -> None:
    index = LabelIndex(MANY)
    for asked, expected in (
        ("b12345 kidn", "b12345 kind"),
        ("B12345 KIND", "b12345 kind"),
        ("c19999 kindx", "c19999 kind"),
    ):
        assert expected in index.find_similar(asked), asked


def test_no_label_is_compared_that_is_far_away() -> None:
    compared: list[str] = []

    class Watched(str):
        __slots__ = ()

        def lower(self) -> str:
            compared.append(self)
            return super().lower()

    index = LabelIndex([*map(Watched, MANY)])
    compared.clear()
    index.find_similar("b12345 kidn")
    assert len(compared) < 2 * MAX_SEARCHED


def test_the_bytes_of_the_longest_labels_are_counted() -> None:
    index = LabelIndex(["a", "ä", "long label"])
    assert [index.count_bytes(count) for count in range(5)] == [0, 12, 16, 19, 19]
