"""The pipeline: always a plan, always valid, proven where it says so."""

import itertools
from dataclasses import replace

import pytest

from solver.check import violations
from solver.pipeline import solve
from solver.plan import Status
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from tests.problems import random_problem

DETERMINISTIC = Budget(deterministic=True)


def test_a_problem_without_nodes_leaves_everything_unplaced_and_is_optimal() -> None:
    plan = solve(Problem(version=1, nodes=(), tasks=(Task(id="t"),)))
    assert plan.status is Status.OPTIMAL
    assert [entry.task for entry in plan.unplaced] == ["t"]
    assert plan.unplaced[0].reasons


def test_a_problem_without_tasks_is_optimal() -> None:
    plan = solve(Problem(version=1, nodes=(Node(id="n"),), tasks=()))
    assert (plan.status, plan.placements) == (Status.OPTIMAL, ())


def test_without_time_the_quick_plan_is_given_with_a_bound() -> None:
    problem = replace(random_problem(3), budget=Budget(seconds=0))
    plan = solve(problem)
    assert plan.status is Status.TIMEOUT
    assert violations(problem, plan) == ()


def test_a_passed_clock_that_has_run_out_stops_the_search() -> None:
    ticks = itertools.count(step=100)
    problem = random_problem(3)
    plan = solve(problem, clock=lambda: float(next(ticks)))
    assert plan.status is Status.TIMEOUT
    assert violations(problem, plan) == ()


def test_quantities_up_to_the_largest_are_solved() -> None:
    huge = 2**53
    nodes = tuple(Node(id=f"n{i}", cpu_milli=huge, memory_mib=huge) for i in range(2))
    tasks = tuple(
        Task(id=f"t{i}", request=Request(cpu_milli=huge, memory_mib=1), move_cost=huge)
        for i in range(3)
    )
    problem = Problem(version=1, nodes=nodes, tasks=tasks)
    plan = solve(problem)
    assert violations(problem, plan) == ()
    assert len(plan.placements) == 2


def test_a_gang_as_large_as_can_be_written_is_left_waiting() -> None:
    problem = Problem(
        version=1,
        nodes=(Node(id="n", cpu_milli=1000),),
        tasks=(Task(id="t", replicas=100_000, request=Request(gpus=1)),),
    )
    plan = solve(problem)
    assert violations(problem, plan) == ()
    assert plan.status is Status.OPTIMAL
    assert plan.placements == ()


def test_a_more_urgent_task_takes_the_place_of_the_cheapest_victim() -> None:
    node = Node(id="n", devices=(Device(id="a"), Device(id="b")))
    running = tuple(
        Task(
            id=f"old-{device}",
            request=Request(gpus=1),
            placed=(Slot(node="n", devices=(device,)),),
            evict_cost=cost,
        )
        for device, cost in (("a", 5), ("b", 2))
    )
    urgent = Task(id="urgent", priority=10, request=Request(gpus=1))
    plan = solve(Problem(version=1, nodes=(node,), tasks=(*running, urgent), budget=DETERMINISTIC))
    assert plan.evicted == ("old-b",)
    assert plan.status is Status.OPTIMAL


def test_a_running_task_moves_to_make_room_for_a_larger_one() -> None:
    nodes = tuple(Node(id=i, devices=(Device(id="a"), Device(id="b"))) for i in "xy")
    running = tuple(
        Task(id=f"on-{i}", request=Request(gpus=1), placed=(Slot(node=i, devices=("a",)),))
        for i in "xy"
    )
    pair = Task(id="pair", request=Request(gpus=2))
    plan = solve(Problem(version=1, nodes=nodes, tasks=(*running, pair), budget=DETERMINISTIC))
    assert len(plan.moved) == 1
    assert (plan.evicted, plan.unplaced, plan.status) == ((), (), Status.OPTIMAL)


def test_a_gang_of_two_goes_on_the_linked_pair() -> None:
    links = {"0": "2", "2": "0", "1": "3", "3": "1"}
    devices = tuple(Device(id=i, links={links[i]: "nvlink"}) for i in "0123")
    pair = Task(id="pair", request=Request(gpus=2))
    problem = Problem(version=1, nodes=(Node(id="n", devices=devices),), tasks=(pair,))
    (placement,) = solve(problem).placements
    assert set(placement.replicas[0].devices) in ({"0", "2"}, {"1", "3"})


@pytest.mark.parametrize("seed", range(40))
def test_generated_clusters_are_proven_and_valid(seed: int) -> None:
    problem = random_problem(seed, nodes=4, devices=4, tasks=12)
    problem = replace(problem, budget=replace(problem.budget, deterministic=True))
    plan = solve(problem)
    assert violations(problem, plan) == ()
    assert plan.status is Status.OPTIMAL
    assert all(term.gap == 0 for term in plan.objective)


def full_and_half(tasks: int) -> Problem:
    """Two nodes of two devices, one of a model that nobody asks for."""
    nodes = tuple(
        Node(id=name, cpu_milli=8000, devices=tuple(Device(id=str(i), model=name) for i in "01"))
        for name in ("wanted", "idle")
    )
    request = Request(cpu_milli=1000, gpus=1)
    asked = tuple(Task(id=f"t{i}", request=request, gpu_models=("wanted",)) for i in range(tasks))
    return Problem(version=1, nodes=nodes, tasks=asked, budget=DETERMINISTIC)


def test_prices_say_what_one_more_unit_would_bring() -> None:
    prices = solve(full_and_half(5)).prices
    assert prices["gpu_milli"] == {"wanted": 1.0, "idle": 0.0}
    assert prices["cpu_milli"] == {"wanted": 0.0, "idle": 0.0}
    assert prices["node"] == {"wanted": 2000.0, "idle": 0.0}


def test_room_is_worth_nothing_where_all_has_it() -> None:
    for dimension in solve(full_and_half(2)).prices.values():
        assert set(dimension.values()) == {0.0}
