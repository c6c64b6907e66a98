"""What a part of a device is worth: the duals of cutting stock."""

import numpy as np
import pytest
from scipy.optimize import linprog

from solver.compiled.worth import price_rests


def worth_of(demand: dict[int, float]) -> np.ndarray:
    sizes = np.array(sorted(demand), dtype=np.int64)
    worth = np.zeros(1001)
    price_rests(sizes, np.array([demand[milli] for milli in sorted(demand)]), worth)
    return worth


def test_a_rest_that_nothing_fits_is_worth_nothing() -> None:
    worth = worth_of({810: 1.0})
    assert worth[190] == worth[809] == 0.0
    assert worth[810] == worth[1000] == 1.0


def test_halves_are_worth_half_a_device() -> None:
    assert worth_of({500: 1.0})[[499, 500, 999, 1000]] == pytest.approx([0.0, 0.5, 0.5, 1.0])


def test_what_there_is_too_little_of_to_fill_a_rest_makes_it_worth_nothing() -> None:
    """Beside 700 fits 300, but few such shares come: most of those rests stay empty."""
    plenty, scarce = worth_of({700: 1.0, 300: 3.0}), worth_of({700: 1.0, 300: 0.5})
    assert plenty[300] == pytest.approx(1 / 3)
    assert scarce[300] == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(10))
def test_the_prices_are_dual_to_filling_all_demand_with_the_fewest_devices(seed: int) -> None:
    """Weak duality both ways: no filling is worth more than a device, and the linear program that
    may use every filling needs just as many devices as the demand is worth.
    """
    rng = np.random.default_rng(seed)
    sizes = sorted(rng.choice(np.arange(150, 1001, 10), size=6, replace=False).tolist())
    demand = rng.integers(1, 50, size=6).astype(float)
    worth = worth_of(dict(zip(sizes, demand, strict=True)))
    fillings = list(_fillings(sizes, 1000))
    for filling in fillings:
        assert sum(n * worth[s] for n, s in zip(filling, sizes, strict=True)) <= 1 + 1e-6
    table = np.array(fillings, dtype=float).T
    exact = linprog(np.ones(len(fillings)), A_ub=-table, b_ub=-demand)
    assert sum(demand * worth[sizes]) == pytest.approx(exact.fun)


def _fillings(sizes: list[int], free: int) -> list[tuple[int, ...]]:
    if not sizes:
        return [()]
    first, *others = sizes
    return [
        (copies, *rest)
        for copies in range(free // first + 1)
        for rest in _fillings(others, free - copies * first)
    ]
