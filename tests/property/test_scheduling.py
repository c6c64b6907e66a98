"""Schedules of small projects against trying every order."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.compiled.decoding import push_left, push_right, scratch_for
from solver.deadline import Deadline
from solver.errors import InvalidProblem
from solver.scheduling.projects.arrays import ProjectArrays
from solver.scheduling.projects.bounds import lower_bound
from solver.scheduling.projects.check import makespan, violations
from solver.scheduling.projects.genetic import GeneticSearch
from solver.scheduling.projects.pipeline import schedule
from solver.scheduling.projects.project import Budget, Project
from solver.scheduling.projects.schedule import Status
from tests.projects import best_value, random_project

SEEDS = st.integers(0, 10**6)
OBJECTIVES = st.sampled_from(["makespan", "weighted_completion"])


def with_deadlines(asked: Project, seed: int, room: int) -> Project | None:
    """Some tasks get a deadline; None where reading alone shows that one can't be met."""
    tasks = tuple(
        replace(task, deadline=room + (seed + i) % 7) if (seed + i) % 3 == 0 else task
        for i, task in enumerate(asked.tasks)
    )
    try:
        return replace(asked, tasks=tasks)
    except InvalidProblem:
        return None


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, objective=OBJECTIVES, tasks=st.integers(1, 6), room=st.integers(4, 14))
def test_what_is_called_optimal_is_the_best_of_all_orders(
    seed: int, objective: str, tasks: int, room: int
) -> None:
    plain = random_project(seed, tasks=tasks, objective=objective)
    asked = with_deadlines(plain, seed, room)
    if asked is None:
        return
    best = best_value(asked)
    found = schedule(asked)
    if best is None:
        assert found.status is Status.INFEASIBLE
        return
    assert (found.status, found.value, found.bound) == (Status.OPTIMAL, best, best)
    assert lower_bound(ProjectArrays.of(asked)) <= best
    assert violations(asked, found.starts) == ()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, tasks=st.integers(1, 6), room=st.integers(1, 14))
def test_deadlines_refused_when_read_can_not_be_met(seed: int, tasks: int, room: int) -> None:
    plain = random_project(seed, tasks=tasks)
    if with_deadlines(plain, seed, room) is not None:
        return
    unchecked = [
        replace(task, deadline=room + (seed + i) % 7) if (seed + i) % 3 == 0 else task
        for i, task in enumerate(plain.tasks)
    ]
    asked = replace(plain)
    object.__setattr__(asked, "tasks", tuple(unchecked))
    assert best_value(asked) is None


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, tasks=st.integers(1, 40))
def test_pushing_keeps_every_rule_and_never_lengthens_a_schedule(seed: int, tasks: int) -> None:
    asked = random_project(seed, tasks=tasks)
    arrays = ProjectArrays.of(asked)
    search = GeneticSearch(arrays, seed)
    search.run(Deadline(Budget(seconds=0.0).as_of_placement(), None), 0.0, 0)
    starts = search.starts
    final = int((starts + arrays.durations).max())
    pushed = starts.copy()
    push_right(arrays.mirror, scratch_for(arrays.mirror), np.full_like(starts, final), pushed)
    assert (pushed >= starts).all()
    assert violations(asked, arrays.named(pushed)) == ()
    push_left(arrays.network, scratch_for(arrays.network), arrays.heads, pushed)
    assert violations(asked, arrays.named(pushed)) == ()
    assert makespan(asked, arrays.named(pushed)) <= final
