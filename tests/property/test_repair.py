"""Starts that break rules: over-full, lost, short, together with whom they should not be."""

import random
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from solver.check import slot_violations, violations
from solver.greedy import place_quickly
from solver.pipeline import solve
from solver.problem import Problem, Slot, Task
from solver.repair import mended
from solver.score import is_touched, repair, slots_before
from tests.oracle import best_score, size_of
from tests.problems import random_problem

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.filter_too_much]
)


def broken_problem(seed: int, *, nodes: int, devices: int, tasks: int) -> Problem:
    """A generated problem in which most tasks run wherever chance put them, room or not."""
    rng = random.Random(seed)
    problem = random_problem(seed, nodes=nodes, devices=devices, tasks=tasks)
    started = tuple(_somewhere(rng, problem, task) for task in problem.tasks)
    return replace(
        problem, tasks=started, budget=replace(problem.budget, deterministic=True, seconds=20)
    )


def _somewhere(rng: random.Random, problem: Problem, task: Task) -> Task:
    homes = [node for node in problem.nodes if len(node.devices) >= task.request.gpus]
    if not homes or rng.random() < 0.3:
        return replace(task, placed=())
    slots: list[Slot] = []
    for _ in range(rng.randint(1, task.replicas)):
        node = rng.choice(homes)
        held = rng.sample([device.id for device in node.devices], task.request.gpus)
        slots.append(Slot(node=node.id, devices=tuple(held)))
    return replace(task, placed=tuple(slots))


@QUIET
@given(SEEDS)
def test_the_quick_repair_breaks_nothing_and_each_mended_place_is_one_less(seed: int) -> None:
    problem = broken_problem(seed, nodes=6, devices=4, tasks=30)
    answer = mended(problem)
    assert slot_violations(problem, answer) == ()
    before, after = repair(problem, slots_before(problem)), repair(problem, answer)
    assert after <= before
    touched = [t for t in problem.tasks if is_touched(t, answer.get(t.id, ()))]
    assert after < before or not touched
    assert all(len(answer[task.id]) >= len(task.placed) for task in touched)


@QUIET
@given(SEEDS)
def test_what_is_placed_after_the_repair_breaks_nothing_again(seed: int) -> None:
    problem = broken_problem(seed, nodes=6, devices=4, tasks=30)
    start = mended(problem)
    answer = place_quickly(problem, start)
    assert slot_violations(problem, answer) == ()
    assert repair(problem, answer) <= repair(problem, start)


@settings(QUIET, max_examples=60)
@given(SEEDS, st.permutations(("placed", "disruption", "fragmentation", "locality", "balance")))
def test_broken_starts_are_worth_what_brute_force_finds(seed: int, objective: list[str]) -> None:
    problem = broken_problem(seed, nodes=3, devices=2, tasks=4)
    problem = replace(problem, objective=tuple(objective))
    assume(repair(problem, slots_before(problem)) and size_of(problem) <= 2000)
    plan = solve(problem)
    assert violations(problem, plan) == ()
    assert plan.status == "optimal"
    assert plan.objective[0].name == "repair"
    worth = tuple(t.value if t.name == "placed" else -t.value for t in plan.objective)
    assert worth == best_score(problem)
