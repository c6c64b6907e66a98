"""The relaxation: a bound that no plan beats, whatever the linear program said."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest

from solver.arrays import as_arrays
from solver.highs.prices import Prices
from solver.highs.relaxation import Relaxation
from solver.problem import Problem
from solver.solve import solve
from tests.problems import random_problem

SEEDS = range(30)


def placed_only(seed: int) -> Problem:
    problem = random_problem(seed, nodes=4, devices=4, tasks=12)
    budget = replace(problem.budget, deterministic=True, seconds=2.0)
    return replace(problem, objective=("placed",), budget=budget)


def proven_values(problem: Problem) -> dict[int, int]:
    """Level -> its value in the best plan, as far down as that is proven."""
    values: dict[int, int] = {}
    for term in solve(problem).objective:
        if term.value != term.bound:
            break
        if term.name == "placed":
            values[term.level or 0] = term.value
    return values


def cases() -> Iterator[tuple[int, dict[int, int], int, int]]:
    """(seed, values above, level, its best value)"""
    for seed in SEEDS:
        above: dict[int, int] = {}
        for level, value in proven_values(placed_only(seed)).items():
            yield seed, dict(above), level, value
            above[level] = value


@pytest.fixture(scope="module")
def solved() -> list[tuple[int, dict[int, int], int, int]]:
    return list(cases())


def test_no_best_plan_beats_the_bound(solved: list[tuple[int, dict[int, int], int, int]]) -> None:
    assert len(solved) > len(SEEDS)
    tight = 0
    for seed, above, level, value in solved:
        bound = Relaxation(as_arrays(placed_only(seed))).bound(level, above)
        assert bound >= value, (seed, level)
        tight += bound == value
    assert tight > len(solved) // 2


def test_any_prices_prove_a_bound(solved: list[tuple[int, dict[int, int], int, int]]) -> None:
    for seed, above, level, value in solved:
        relaxation = Relaxation(as_arrays(placed_only(seed)))
        ledger, levels = relaxation.ledger, relaxation.levels
        kept = {levels.index(other): worth for other, worth in above.items()}
        for prices in perturbed(relaxation, levels.index(level), seed):
            assert ledger.bound(levels.index(level), prices, kept) >= value, (seed, level)


def perturbed(relaxation: Relaxation, row: int, seed: int) -> Iterator[Prices]:
    """Prices that no linear program would propose: scaled at random, or drawn at random."""
    rng = np.random.default_rng(seed)
    found = relaxation.program.solve(row, {})  # None where nothing has room
    proposed = relaxation.ledger.prices() if found is None else found[0]
    for most in (0, 0, 2**20, 2**36, 2**44):
        changed = {}
        for field in fields(Prices):
            values = getattr(proposed, field.name)
            drawn = rng.integers(0, most, values.shape) if most else 0
            scaled = (values * rng.uniform(0.5, 1.5, values.shape)).astype(np.int64) + drawn
            if field.name == "share":
                scaled = np.maximum.accumulate(np.minimum(scaled, 2**46), axis=1)
            if field.name == "level":
                scaled = np.minimum(scaled, 2**36)
            if field.name == "memory":
                scaled = np.minimum(scaled, 2**40)
            changed[field.name] = scaled
        yield Prices(**changed)
