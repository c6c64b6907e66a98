"""The large gear, on problems small enough to look at: it counts as the specification does, breaks
no rule, and its bounds hold.
"""

from dataclasses import replace

import pytest

from solver.arrays import as_arrays
from solver.certificate import Certificate
from solver.check import slot_violations
from solver.deadline import Deadline
from solver.large.gear import LargeGear
from solver.problem import Budget, Problem
from solver.repair import mended
from solver.score import score_slots
from tests.oracle import best_score
from tests.problems import random_problem, tiny_problem

ALL_TERMS = (
    ("placed", "disruption", "fragmentation", "locality", "balance", "pack", "power"),
    ("pack", "placed", "power", "locality"),
    ("disruption", "placed", "balance"),
    ("placed",),
)


def deterministic(problem: Problem, seconds: float, terms: tuple[str, ...]) -> Problem:
    budget = replace(problem.budget, seconds=seconds, deterministic=True)
    return replace(problem, budget=budget, objective=terms)


def run(problem: Problem) -> LargeGear:
    certificate = Certificate(problem)
    deadline = Deadline(problem.budget, None)
    gear = LargeGear(as_arrays(problem), certificate, mended(problem), deadline)
    gear.search(1.0)
    return gear


@pytest.mark.parametrize("seed", range(48))
def test_answer_breaks_no_rule_and_is_worth_what_the_search_counted(seed: int) -> None:
    terms = ALL_TERMS[seed % len(ALL_TERMS)]
    problem = deterministic(random_problem(seed), 0.05, terms)
    gear = run(problem)
    answer = gear.answer()
    assert slot_violations(problem, answer) == ()
    scored = [entry.value for entry in score_slots(problem, answer) if entry.name != "repair"]
    assert list(gear.values()[-len(scored) :]) == scored


@pytest.mark.parametrize("seed", range(30))
def test_bounds_are_never_beaten_by_brute_force(seed: int) -> None:
    problem = deterministic(tiny_problem(seed), 0.05, ("placed", "disruption"))
    gear = run(problem)
    best = best_score(problem)
    bounds = gear.certificate.bounds(gear.values())
    for entry, gain, bound in zip(score_slots(problem, gear.answer()), best, bounds, strict=True):
        assert gain <= (bound if entry.name == "placed" else -bound)


@pytest.mark.parametrize("seed", range(10))
def test_same_problem_gives_the_same_answer(seed: int) -> None:
    problem = deterministic(random_problem(seed), 0.05, ALL_TERMS[0])
    assert run(problem).answer() == run(problem).answer()


def test_more_time_is_never_worse() -> None:
    problem = random_problem(7)
    short, long = (
        run(replace(problem, budget=Budget(seconds=s, deterministic=True))).values()
        for s in (0.04, 0.4)
    )
    assert long[0] >= short[0]
