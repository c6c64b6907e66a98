"""Tasks come, go and move; every state on the way obeys the specification."""

import random
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from solver.check import slot_violations
from solver.instant import Planner
from solver.problem import Problem, Slot, Task
from tests.problems import random_problem

SEEDS = st.integers(min_value=0, max_value=10**9)
QUIET = settings(deadline=None, max_examples=60)


def now(problem: Problem, planner: Planner, max_moves: int) -> Problem:
    """The problem as it stands: what runs is placed where it runs."""
    tasks = (replace(task, placed=planner.slots.get(task.id, ())) for task in problem.tasks)
    budget = replace(problem.budget, max_moves=max_moves)
    return replace(problem, tasks=tuple(tasks), budget=budget)


def fits(problem: Problem, task: Task) -> bool:
    """Whether any slot at all could take the task's one replica, by the specification."""
    before = {other.id: other.placed for other in problem.tasks if other.placed}
    return any(
        not slot_violations(problem, {**before, task.id: (Slot(node=node.id, devices=devices),)})
        for node in problem.nodes
        for devices in combinations([d.id for d in node.devices], task.request.gpus)
    )


@QUIET
@given(SEEDS, st.integers(min_value=0, max_value=3))
def test_every_decision_obeys_the_rules_in_the_state_that_it_meets(
    seed: int, max_moves: int
) -> None:
    rng = random.Random(seed)
    problem = random_problem(seed, nodes=6, devices=4, tasks=24)
    planner = Planner(problem)
    for _ in range(40):
        task = rng.choice(problem.tasks)
        before = now(problem, planner, max_moves)
        held = planner.slots
        if task.id in held:
            planner.end(task.id)
            after = {name: slots for name, slots in held.items() if name != task.id}
            assert planner.slots == after
            continue
        decision = planner.arrive(replace(task, placed=()), max_moves)
        assert slot_violations(before, planner.slots) == ()
        assert set(planner.slots) - {task.id} == set(held)
        assert planner.slots.get(task.id, ()) == decision.slots
        assert len(decision.moves) <= max_moves
        for move in decision.moves:
            assert move.before != move.after
        for name in held:
            moved = [move for move in decision.moves if move.task == name]
            if not moved:
                assert planner.slots[name] == held[name]


@QUIET
@given(SEEDS)
def test_a_single_task_is_dropped_only_if_no_slot_takes_it(seed: int) -> None:
    problem = random_problem(seed, nodes=3, devices=4, tasks=16)
    planner = Planner(problem)
    for task in problem.tasks:
        if task.placed or task.replicas > 1:
            continue
        before = now(problem, planner, 0)
        if not planner.arrive(task).slots:
            assert not fits(before, task)


@QUIET
@given(SEEDS)
def test_equal_histories_give_equal_decisions(seed: int) -> None:
    problem = random_problem(seed, nodes=6, devices=8, tasks=40)
    waiting = [task for task in problem.tasks if not task.placed]
    first, second = Planner(problem), Planner(problem)
    for task in waiting:
        assert first.arrive(task, 2) == second.arrive(task, 2)
