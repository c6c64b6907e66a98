"""Which numbers have been seen."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.ranges import STRETCHES_MAX, Ranges


@given(st.lists(st.integers(1, 60), max_size=80))
def test_ranges_know_what_was_added_and_nothing_else(numbers: list[int]) -> None:
    ranges = Ranges()
    for number in numbers:
        ranges.add(number)
    assert [n for n in range(62) if n in ranges] == sorted(set(numbers))
    pairs = ranges.pairs
    assert pairs == sorted(pairs)
    gaps = itertools.pairwise(pairs)
    assert all(before[1] + 1 < after[0] for before, after in gaps), "neighbours are one stretch"


def test_a_copy_is_another() -> None:
    ranges = Ranges([(1, 3)])
    copy = ranges.copy()
    copy.add(5)
    assert 5 not in ranges
    assert copy == Ranges([(1, 3), (5, 5)])


def test_too_many_gaps_close_the_oldest() -> None:
    ranges = Ranges()
    for number in range(0, 4 * STRETCHES_MAX, 2):
        ranges.add(number)
    assert len(ranges.pairs) == STRETCHES_MAX
    assert 1 in ranges, "too old to come still"
    newest = 4 * STRETCHES_MAX - 2
    assert newest in ranges
    assert newest - 1 not in ranges
