"""The large gear's first answer."""

from dataclasses import replace

import pytest

from solver.arrays import as_arrays
from solver.deadline import Deadline
from solver.greedy import grow
from solver.large.search import LargeSearch
from solver.occupancy import occupied
from solver.problem import Device, Node, Problem, Request, Task
from tests.problems import random_problem


def constructed(problem: Problem) -> LargeSearch:
    search = LargeSearch(as_arrays(problem), {})
    search.construct(Deadline(problem.budget, None))
    return search


@pytest.mark.parametrize("seed", range(30))
def test_no_single_task_that_still_fits_is_left_waiting(seed: int) -> None:
    problem = random_problem(seed)
    tasks = tuple(
        replace(task, placed=(), replicas=1, min_replicas=None, pack_within=None, spread_over=None)
        for task in problem.tasks
    )
    problem = replace(problem, tasks=tasks)
    answer = constructed(problem).answer()
    waiting = [task for task in tasks if not answer.get(task.id)]
    assert [task.id for task in waiting if grow(occupied(problem, answer), task)] == []


def test_a_task_too_large_for_what_is_left_keeps_no_smaller_one_waiting() -> None:
    def task(name: str, milli: int, gpus: int = 1) -> Task:
        return Task(id=name, request=Request(gpus=gpus, gpu_milli=milli))

    node = Node(id="n", devices=tuple(Device(id=str(i)) for i in range(4)))
    tasks = (
        task("three", 1000, gpus=3),
        task("two", 1000, gpus=2),  # one device is left
        task("b", 600),
        task("c", 450),  # 400 are left
        task("d", 400),
    )
    answer = constructed(Problem(version=1, nodes=(node,), tasks=tasks)).answer()
    assert {name for name, slots in answer.items() if slots} == {"three", "b", "d"}
