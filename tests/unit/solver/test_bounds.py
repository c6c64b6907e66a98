"""The bounds that need no search."""

from dataclasses import replace

import pytest

from solver.bounds import most_replicas, placed_bound
from solver.problem import Device, Node, Problem, Request, Task
from tests.problems import MODELS, random_problem


@pytest.mark.parametrize("seed", range(40))
def test_counting_by_kind_of_task_and_node_gives_what_counting_one_by_one_gives(seed: int) -> None:
    problem = random_problem(seed)
    tasks = tuple(replace(task, priority=0, placed=()) for task in problem.tasks)
    # Devices without a CPU beside them: nothing runs there, but nor do devices bound the level.
    devices = tuple(
        Device(id=f"{model}-{i}", model=model, memory_mib=2**20)
        for model, _ in MODELS
        for i in range(400)
    )
    nodes = (*problem.nodes, Node(id="bare", devices=devices))
    problem = replace(problem, nodes=nodes, tasks=tasks)
    assert placed_bound(problem, 0) == sum(
        most_replicas(problem, task) * task.request.weight for task in tasks
    )


def test_a_device_that_no_task_may_have_bounds_nothing() -> None:
    def node(name: str, model: str) -> Node:
        return Node(id=name, devices=(Device(id="0", model=model), Device(id="1", model=model)))

    tasks = tuple(Task(id=f"t{i}", request=Request(gpus=1), gpu_models=("A100",)) for i in range(9))
    nodes = (node("a", "A100"), node("b", "A100"), node("c", "T4"))
    assert placed_bound(Problem(version=1, nodes=nodes, tasks=tasks), 0) == 4000
    cordoned = (nodes[0], replace(nodes[1], schedulable=False), nodes[2])
    assert placed_bound(Problem(version=1, nodes=cordoned, tasks=tasks), 0) == 2000
