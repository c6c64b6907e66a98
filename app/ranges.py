"""Which numbers have been seen: few stretches, since most come in order."""

from bisect import bisect_right
from collections.abc import Iterable

STRETCHES_MAX = 5_000
"""More gaps than an agent's spool can leave: it keeps a day, and a batch is of ten seconds."""


class Ranges:
    """A set of whole numbers that knows itself by its stretches. Bounded: when there are too many
    gaps, the oldest is taken for seen."""

    def __init__(self, pairs: Iterable[Iterable[int]] = ()) -> None:
        self.pairs: list[tuple[int, int]] = [(first, last) for first, last in pairs]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self.pairs, (number, float("inf"))) - 1
        return index >= 0 and self.pairs[index][0] <= number <= self.pairs[index][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.pairs == other.pairs

    __hash__ = None  # pyright: ignore[reportAssignmentType]  it changes

    def __repr__(self) -> str:
        return f"Ranges({self.pairs})"

    def copy(self) -> "Ranges":
        return Ranges(self.pairs)

    def add(self, number: int) -> None:
        if number in self:
            return
        index = bisect_right(self.pairs, (number, float("inf")))
        first = last = number
        if index < len(self.pairs) and self.pairs[index][0] == number + 1:
            last = self.pairs.pop(index)[1]
        if index > 0 and self.pairs[index - 1][1] == number - 1:
            index -= 1
            first = self.pairs.pop(index)[0]
        self.pairs.insert(index, (first, last))
        if len(self.pairs) > STRETCHES_MAX:
            (first, _), (_, last) = self.pairs[:2]
            self.pairs[:2] = [(first, last)]
