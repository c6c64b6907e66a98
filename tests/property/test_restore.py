"""Nothing moves without gain, whatever the objective says and whoever made the answer."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from solver.check import slot_violations, violations
from solver.greedy import place_quickly
from solver.pipeline import solve
from solver.problem import Problem, Slot
from solver.restore import put_back
from solver.score import is_touched, repair, slots_before
from tests.oracle import score_of
from tests.problems import random_problem
from tests.property.test_steps import shuffled_cluster

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(deadline=None, max_examples=40)

Slots = dict[str, tuple[Slot, ...]]


def needless(problem: Problem, answer: Slots) -> list[str]:
    """The tasks that could be where they ran with the objective no worse and all else as it is."""
    return [
        task.id
        for task in problem.tasks
        if is_touched(task, answer.get(task.id, ()))
        and not slot_violations(problem, kept := {**answer, task.id: task.placed})
        and score_of(problem, kept) >= score_of(problem, answer)
    ]


@QUIET
@given(SEEDS)
def test_any_packing_ends_no_worse_with_nobody_away_for_nothing(seed: int) -> None:
    problem, answer = shuffled_cluster(seed)
    problem = replace(problem, budget=replace(problem.budget, max_moves=None))
    found = put_back(problem, answer)
    if not slot_violations(problem, answer):
        assert slot_violations(problem, found) == ()
        assert score_of(problem, found) >= score_of(problem, answer)
        assert needless(problem, found) == []


@QUIET
@given(SEEDS)
def test_the_quick_answer_gives_back_every_victim_that_is_not_needed(seed: int) -> None:
    problem = random_problem(seed, nodes=6, devices=4, tasks=40)
    found = put_back(problem, place_quickly(problem))
    assert slot_violations(problem, found) == ()
    if not repair(problem, slots_before(problem)):
        assert needless(problem, found) == []


@settings(QUIET, max_examples=25)
@given(SEEDS, st.sampled_from(("placed", "fragmentation", "balance", "pack")))
def test_a_plan_whose_objective_is_blind_to_moves_moves_nobody_for_nothing(
    seed: int, term: str
) -> None:
    problem = random_problem(seed, nodes=4, devices=4, tasks=10)
    names = ("placed",) if term == "placed" else ("placed", term)
    budget = replace(problem.budget, deterministic=True)
    problem = replace(problem, budget=budget, objective=names)
    plan = solve(problem)
    assert violations(problem, plan) == ()
    if not repair(problem, slots_before(problem)):
        after = {placement.task: placement.replicas for placement in plan.placements}
        assert needless(problem, after) == []
