"""The fillings of a device are all maximal sets of shares that fit it, and only those."""

from itertools import product

import pytest

from solver.cpsat.fillings import Share, covers, fillings


def by_brute_force(demand: dict[Share, int], memory_mib: int) -> set[tuple[int, ...]]:
    """Every count of each size that fits, less those that another one contains."""
    sizes = sorted(demand, reverse=True)
    fitting = {
        counts
        for counts in product(*(range(demand[size] + 1) for size in sizes))
        if sum(n * milli for n, (milli, _) in zip(counts, sizes, strict=True)) <= 1000
        and sum(n * mib for n, (_, mib) in zip(counts, sizes, strict=True)) <= memory_mib
    }
    return {
        counts
        for counts in fitting
        if not any(
            other != counts and all(a >= b for a, b in zip(other, counts, strict=True))
            for other in fitting
        )
    }


@pytest.mark.parametrize(
    ("demand", "memory_mib"),
    [
        ({(600, 0): 1, (500, 0): 2, (250, 0): 4}, 0),
        ({(333, 0): 3, (190, 0): 5, (100, 0): 3}, 0),
        ({(250, 8000): 4, (250, 0): 4, (500, 4000): 2}, 16000),
        ({(810, 0): 1, (190, 9000): 2, (100, 100): 2}, 8000),
        ({(460, 1): 1}, 1),
    ],
)
def test_the_fillings_are_the_maximal_ones(demand: dict[Share, int], memory_mib: int) -> None:
    found = fillings(demand, memory_mib, 1000)
    assert found is not None
    sizes = sorted(demand, reverse=True)
    counts = [tuple(dict(filling).get(size, 0) for size in sizes) for filling in found]
    assert len(set(counts)) == len(counts)
    assert set(counts) == by_brute_force(demand, memory_mib)


def test_too_many_fillings_are_not_counted_out() -> None:
    demand = {(20 + i, 0): 30 for i in range(20)}
    assert fillings(demand, 0, 400) is None


def test_a_filling_covers_what_it_has_room_for() -> None:
    filling = (((500, 0), 1), ((250, 0), 2))
    assert covers(filling, {(250, 0): 2})
    assert not covers(filling, {(250, 0): 3})
    assert not covers(filling, {(100, 0): 1})
