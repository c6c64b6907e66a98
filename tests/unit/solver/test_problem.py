"""A problem refuses what makes no sense, naming all of it at once."""

from dataclasses import replace

import pytest

from solver.errors import InvalidProblem
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task

NODE = Node(id="n", cpu_milli=1000, devices=(Device(id="g0"), Device(id="g1")))


def faults_of(**fields: object) -> dict[str, str]:
    with pytest.raises(InvalidProblem) as caught:
        Problem(**{"version": 1, "nodes": (NODE,), "tasks": (), **fields})
    return {fault.path: fault.reason for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"nodes": (NODE, NODE)}, "nodes[1].id"),
        ({"tasks": (Task(id="a"), Task(id="a"))}, "tasks[1].id"),
        ({"queues": (Queue(id="q"), Queue(id="q"))}, "queues[1].id"),
        (
            {"nodes": (Node(id="n", devices=(Device(id="g"), Device(id="g"))),)},
            "nodes[0].devices[1].id",
        ),
        ({"nodes": (Node(id="n", cpu_milli=-1),)}, "nodes[0].cpu_milli"),
        ({"nodes": (Node(id="n", cpu_milli=2**53 + 1),)}, "nodes[0].cpu_milli"),
        ({"nodes": (Node(id="n", domains={"node": "x"}),)}, "nodes[0].domains.node"),
        ({"tasks": (Task(id=""),)}, "tasks[0].id"),
        ({"tasks": (Task(id="t", queue="no"),)}, "tasks[0].queue"),
        ({"tasks": (Task(id="t", replicas=0),)}, "tasks[0].replicas"),
        ({"tasks": (Task(id="t", min_replicas=2),)}, "tasks[0].min_replicas"),
        ({"tasks": (Task(id="t", separate_from=("no",)),)}, "tasks[0].separate_from[0]"),
        ({"tasks": (Task(id="t", separate_from=("t",)),)}, "tasks[0].separate_from[0]"),
        (
            {"tasks": (Task(id="t", request=Request(gpus=2, gpu_milli=500)),)},
            "tasks[0].request.gpu_milli",
        ),
        (
            {"tasks": (Task(id="t", request=Request(gpus=0, gpu_milli=500)),)},
            "tasks[0].request.gpu_milli",
        ),
        (
            {"tasks": (Task(id="t", request=Request(gpus=1, gpu_milli=1001)),)},
            "tasks[0].request.gpu_milli",
        ),
        ({"tasks": (Task(id="t", placed=(Slot(node="no"),)),)}, "tasks[0].placed[0].node"),
        ({"tasks": (Task(id="t", placed=(Slot(node="n"), Slot(node="n"))),)}, "tasks[0].placed"),
        (
            {
                "tasks": (
                    Task(id="t", request=Request(gpus=1), placed=(Slot(node="n", devices=("x",)),)),
                )
            },
            "tasks[0].placed[0].devices[0]",
        ),
        (
            {"tasks": (Task(id="t", request=Request(gpus=1), placed=(Slot(node="n"),)),)},
            "tasks[0].placed[0].devices",
        ),
        (
            {
                "tasks": (
                    Task(
                        id="t",
                        request=Request(gpus=2),
                        placed=(Slot(node="n", devices=("g0", "g0")),),
                    ),
                )
            },
            "tasks[0].placed[0].devices[1]",
        ),
        ({"queues": (Queue(id="q", parent="no"),)}, "queues[0].parent"),
        ({"queues": (Queue(id="q", parent="q"),)}, "queues[0].parent"),
        ({"queues": (Queue(id="q", limit={"gold": 1}),)}, "queues[0].limit.gold"),
        (
            {"queues": (Queue(id="q", guaranteed={"gpu_milli": -1}),)},
            "queues[0].guaranteed.gpu_milli",
        ),
        ({"objective": ("fast",)}, "objective[0]"),
        ({"objective": ("pack", "pack")}, "objective[1]"),
        ({"objective": ()}, "objective"),
        ({"budget": Budget(seconds=float("nan"))}, "budget.seconds"),
        ({"budget": Budget(workers=0)}, "budget.workers"),
        ({"nodes": (Node(id="n", labels={"zone": "z" * 257}),)}, "nodes[0].labels.zone"),
        (
            {"nodes": (Node(id="n", devices=(Device(id="g", numa=-1),)),)},
            "nodes[0].devices[0].numa",
        ),
        ({"tasks": (Task(id="t", request=Request(gpus=-1)),)}, "tasks[0].request.gpus"),
        ({"tasks": (Task(id="t", duration_seconds=-0.5),)}, "tasks[0].duration_seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_path(fields: dict[str, object], path: str) -> None:
    assert list(faults_of(**fields)) == [path]


def test_every_fault_is_listed_at_once() -> None:
    tasks = (Task(id="t", queue="no", min_replicas=4), Task(id="t", replicas=-1))
    assert set(faults_of(tasks=tasks, objective=("x",))) == {
        "tasks[0].queue",
        "tasks[0].min_replicas",
        "tasks[1].id",
        "tasks[1].replicas",
        "objective[0]",
    }


def test_another_budget_is_checked_and_nothing_else_changes() -> None:
    problem = Problem(version=1, nodes=(NODE,), tasks=(Task(id="t"),))
    changed = problem.with_budget(Budget(seconds=9.0))
    assert changed == replace(problem, budget=Budget(seconds=9.0))
    assert problem.budget == Budget()
    with pytest.raises(InvalidProblem) as caught:
        problem.with_budget(Budget(seconds=-1.0))
    assert [fault.path for fault in caught.value.faults] == ["budget.seconds"]


def test_queues_in_a_ring_are_each_named() -> None:
    queues = (
        Queue(id="a", parent="b"),
        Queue(id="b", parent="c"),
        Queue(id="c", parent="a"),
        Queue(id="below", parent="a"),
    )
    assert set(faults_of(queues=queues)) == {f"queues[{i}].parent" for i in range(3)}


def test_a_long_chain_of_queues_is_no_ring() -> None:
    chain = (Queue(id=str(i), parent=str(i + 1)) for i in range(5000))
    queues = (*chain, Queue(id="5000"))
    assert len(Problem(version=1, nodes=(), tasks=(), queues=queues).queues) == 5001


def test_the_default_queue_needs_no_listing() -> None:
    assert Problem(version=1, nodes=(), tasks=(Task(id="t"),)).tasks[0].queue == "default"


def test_a_link_to_a_device_that_is_gone_is_no_fault() -> None:
    node = Node(id="n", devices=(Device(id="g", links={"lost": "nvlink"}),))
    assert Problem(version=1, nodes=(node,), tasks=()).nodes == (node,)


def test_a_broken_start_is_no_fault() -> None:
    full = tuple(
        Task(id=i, request=Request(gpus=1), placed=(Slot(node="n", devices=("g0",)),)) for i in "ab"
    )
    assert len(Problem(version=1, nodes=(NODE,), tasks=full).tasks) == 2
