"""Equal nodes as one: what is equal, and that bounds from it hold for the problem as posed."""

from dataclasses import replace

import pytest

from solver.cpsat import search
from solver.cpsat.merging import merge_nodes
from solver.pipeline import solve
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from tests.problems import random_problem, with_equal_nodes, with_watts

OBJECTIVES = (
    ("placed", "disruption", "fragmentation", "locality", "balance"),
    ("placed", "pack", "power"),
    ("power", "placed", "balance", "pack"),
    ("locality", "fragmentation", "placed"),
)


def node(name: str, **other: object) -> Node:
    devices = (Device(id="0"), Device(id="1", links={"0": "nvlink"}))
    return replace(Node(id=name, cpu_milli=8000, devices=devices), **other)


def test_equal_nodes_are_counted() -> None:
    problem = Problem(version=1, nodes=(node("a"), node("b"), node("c", cpu_milli=1)), tasks=())
    found = merge_nodes(problem)
    assert found is not None
    assert ([n.id for n in found[0].nodes], found[1]) == (["a", "c"], ((0, 1), (2,)))


@pytest.mark.parametrize(
    ("other", "task"),
    [
        ({"schedulable": False}, Task(id="t")),
        ({"idle_watts": 5}, Task(id="t")),
        ({"labels": {"zone": "a"}}, Task(id="t", node_selector={"zone": ("a",)})),
        ({"domains": {"rack": "r"}}, Task(id="t", pack_within="rack")),
        ({"domains": {"rack": "r"}}, Task(id="t", replicas=2)),
        ({}, Task(id="t", placed=(Slot(node="b"),))),
        ({"devices": (Device(id="0"), Device(id="1"))}, Task(id="t", request=Request(gpus=2))),
        ({"devices": (Device(id="0"), Device(id="1", healthy=False))}, Task(id="t")),
    ],
)
def test_what_a_task_or_a_term_tells_apart_is_not_equal(
    other: dict[str, object], task: Task
) -> None:
    problem = Problem(version=1, nodes=(node("a"), node("b", **other)), tasks=(task,))
    assert merge_nodes(problem) is None


def test_what_nobody_asks_for_is_no_difference() -> None:
    nodes = (node("a"), node("b", labels={"zone": "a"}, domains={"rack": "r"}))
    assert merge_nodes(Problem(version=1, nodes=nodes, tasks=(Task(id="t"),))) is not None


@pytest.mark.parametrize("seed", range(24))
def test_bounds_from_merged_nodes_hold(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    problem = with_watts(with_equal_nodes(random_problem(seed, nodes=5, devices=4, tasks=8)))
    problem = replace(
        problem,
        objective=OBJECTIVES[seed % len(OBJECTIVES)],
        budget=Budget(deterministic=True),
    )
    with_merged = solve(problem)
    monkeypatch.setattr(search, "merge_nodes", lambda problem: None)
    assert with_merged.objective == solve(problem).objective
    assert with_merged.status == "optimal"


def test_nodes_too_small_for_a_task_do_not_make_one_that_is_large_enough() -> None:
    wide = Task(id="wide", request=Request(gpus=4))
    nodes = tuple(node(name) for name in "abc")
    shares = tuple(Task(id=f"s{i}", request=Request(gpus=1, gpu_milli=350)) for i in range(13))
    problem = Problem(
        version=1,
        nodes=nodes,
        tasks=(wide, *shares),
        objective=("placed",),
        budget=Budget(deterministic=True),
    )
    plan = solve(problem)
    assert plan.status == "optimal"
    assert plan.objective[0].bound == 12 * 350
