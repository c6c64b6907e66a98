"""From a project to its schedule."""

import time
from dataclasses import replace

import pytest

from solver.scheduling.projects.check import violations
from solver.scheduling.projects.pipeline import schedule
from solver.scheduling.projects.project import Budget
from solver.scheduling.projects.schedule import Status
from tests.projects import QUICK, project, random_project, task


def test_a_project_without_tasks_is_over_at_once() -> None:
    found = schedule(project())
    assert (found.status, found.makespan, found.bound, found.starts) == (Status.OPTIMAL, 0, 0, {})


def test_slack_is_the_room_within_the_makespan_and_critical_is_who_can_not_move() -> None:
    found = schedule(
        project(task("a", 4, gpu=3), task("b", 2, gpu=3), task("c", 1), task("d", 2, after=("c",)))
    )
    assert (found.status, found.makespan) == (Status.OPTIMAL, 6)
    assert found.slack == {"a": 2, "b": 4, "c": 3, "d": 3}
    assert found.critical == ("a", "b")


def test_a_deadline_that_only_a_search_refutes_makes_the_project_infeasible() -> None:
    found = schedule(project(*(task(name, 4, gpu=3, deadline=9) for name in "abc")))
    assert (found.status, found.starts, found.makespan) == (Status.INFEASIBLE, {}, None)


def test_deadlines_come_before_the_makespan() -> None:
    long, urgent = task("long", 9, gpu=3), task("urgent", 2, gpu=2, deadline=2)
    found = schedule(project(long, urgent))
    assert (found.status, found.starts) == (Status.OPTIMAL, {"long": 2, "urgent": 0})


def test_weights_decide_who_goes_first() -> None:
    heavy, light = task("heavy", 3, gpu=3, weight=5), task("light", 1, gpu=3, weight=1)
    found = schedule(project(light, heavy, objective="weighted_completion"))
    assert (found.status, found.starts) == (Status.OPTIMAL, {"heavy": 0, "light": 3})
    assert (found.value, found.makespan) == (5 * 3 + 4, 4)


def test_the_same_project_gives_the_same_schedule_where_that_is_asked_for() -> None:
    asked = random_project(7, tasks=60).with_budget(replace(QUICK, seconds=0.3))
    assert schedule(asked, time.monotonic) == schedule(asked, time.monotonic)


@pytest.mark.parametrize("objective", ["makespan", "weighted_completion"])
def test_without_time_there_is_a_schedule_all_the_same(objective: str) -> None:
    asked = random_project(3, tasks=300, objective=objective, budget=Budget(seconds=0.0))
    found = schedule(asked, time.monotonic)
    assert found.status in {Status.FEASIBLE, Status.OPTIMAL}
    assert found.bound is not None
    assert found.value is not None
    assert found.bound <= found.value
    assert violations(asked, found.starts) == ()


def test_thousands_of_tasks_and_times_of_any_length_get_a_schedule() -> None:
    small = random_project(5, tasks=3000)
    scale = 10**9
    asked = project(
        *(replace(t, duration=t.duration * scale, release=t.release * scale) for t in small.tasks),
        resources=dict(small.resources),
        budget=replace(QUICK, seconds=0.1),
    )
    found = schedule(asked)
    assert found.status is Status.FEASIBLE
    assert found.gap is not None
    assert found.gap < 0.5


def test_a_large_project_ends_when_its_time_is_up() -> None:
    """Found on 10,000 tasks: seconds left and seconds given, read at two moments, differed."""
    asked = random_project(5, tasks=1200, budget=Budget(seconds=0.5))
    moments = (i * 0.03 for i in range(100_000))
    found = schedule(asked, lambda: next(moments))
    assert found.status in {Status.FEASIBLE, Status.OPTIMAL}
