"""Reasons are those of an oracle that lifts the rules, and every fix works when it is tried."""

from dataclasses import replace
from math import comb

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solver.deadline import Deadline
from solver.explain import explain
from solver.explain.queue import MOST_FIXES
from solver.greedy import place_quickly
from solver.plan import ReasonCode
from solver.problem import Problem, Task
from tests import lifting
from tests.hash_seeds import outputs_of
from tests.problems import random_problem

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.filter_too_much]
)
ABOUT_OTHERS = {ReasonCode.LOWER_PRIORITY, ReasonCode.MOVES_EXHAUSTED}


def small_problem(seed: int) -> Problem:
    return random_problem(seed, nodes=3, devices=2, tasks=9)


def ways_of(problem: Problem, task: Task) -> int:
    """How many placements of the task the oracle would look at."""
    slots = sum(comb(len(node.devices), task.request.gpus) for node in problem.nodes)
    return comb(slots + task.replicas - 1, task.replicas)


def explained(problem: Problem):
    answer = place_quickly(problem)
    deadline = Deadline(replace(problem.budget, deterministic=True), None)
    return answer, explain(problem, answer, deadline)


@QUIET
@given(SEEDS)
def test_reasons_are_those_of_lifting_every_set_of_rules(seed: int) -> None:
    problem = small_problem(seed)
    answer, entries = explained(problem)
    for entry in entries:
        if ways_of(problem, lifting.task_of(problem, entry.task)) > 300:
            continue
        expected = lifting.codes(problem, answer, entry.task)
        given_codes = {reason.code for reason in entry.reasons} - ABOUT_OTHERS
        assert given_codes == (expected or {ReasonCode.NO_CAPACITY}), entry


@QUIET
@given(SEEDS)
def test_every_fix_works_and_there_are_few_cheapest_first(seed: int) -> None:
    problem = small_problem(seed)
    answer, entries = explained(problem)
    for entry in entries:
        assert len(entry.fixes) <= MOST_FIXES
        assert [f.cost for f in entry.fixes] == sorted(f.cost for f in entry.fixes)
        if ways_of(problem, lifting.task_of(problem, entry.task)) > 3000:
            continue
        for fix in entry.fixes:
            assert lifting.works(problem, answer, entry.task, fix), (entry.task, fix)


@QUIET
@given(SEEDS)
def test_more_urgent_tasks_are_a_reason_exactly_if_the_task_fits_without_them(seed: int) -> None:
    problem = small_problem(seed)
    answer, entries = explained(problem)
    for entry in entries:
        if ways_of(problem, lifting.task_of(problem, entry.task)) > 300:
            continue
        waits = not lifting.fits(lifting.final_state(problem, answer, entry.task), entry.task)
        expected = waits and lifting.fits_without_higher(problem, answer, entry.task)
        codes = {reason.code for reason in entry.reasons}
        assert (ReasonCode.LOWER_PRIORITY in codes) == expected


@QUIET
@given(SEEDS)
def test_moves_are_exhausted_only_where_a_plan_with_more_of_them_runs_the_task(seed: int) -> None:
    problem = small_problem(seed)
    answer, entries = explained(problem)
    for entry in entries:
        if all(reason.code is not ReasonCode.MOVES_EXHAUSTED for reason in entry.reasons):
            continue
        most = problem.budget.max_moves
        assert most is not None
        if plans_of(problem, answer, entry.task) > 4000:
            continue
        needed = lifting.fewest_touched(problem, answer, entry.task)
        assert needed is not None
        assert needed > most


def plans_of(problem: Problem, answer: lifting.Answer, name: str) -> int:
    """How many plans the oracle would look at."""
    untouched = (t for t in problem.tasks if t.placed and answer.get(t.id) == t.placed)
    ways = ways_of(problem, lifting.task_of(problem, name))
    for task in untouched:
        counts = range(1, task.replicas + 1)
        ways *= 2 + sum(ways_of(problem, replace(task, replicas=n, min_replicas=n)) for n in counts)
    return ways


def test_the_same_is_told_under_three_hash_seeds() -> None:
    script = (
        "from tests.property.test_explain import explained, small_problem\n"
        "for seed in range(20):\n"
        "    print(explained(small_problem(seed))[1])\n"
    )
    outputs = outputs_of(script)
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000
