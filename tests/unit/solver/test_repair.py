"""A state that breaks a rule at the start is mended first, by no more moves than it takes."""

from dataclasses import replace

import pytest

from solver.check import slot_violations
from solver.pipeline import solve
from solver.plan import Plan, Status
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from solver.repair import mended
from solver.score import is_touched, repair, slots_before

DETERMINISTIC = Budget(deterministic=True)
NODES = tuple(
    Node(id=n, cpu_milli=10_000, devices=tuple(Device(id=i, memory_mib=100) for i in "01"))
    for n in "ab"
)


def at(place: str) -> tuple[Slot, ...]:
    """``a0`` is device 0 of node a, ``a`` the node alone; several are parted by spaces."""
    return tuple(Slot(node=p[0], devices=tuple(p[1:])) for p in place.split())


def cpu(name: str, milli: int, place: str, **fields: object) -> Task:
    return Task(id=name, request=Request(cpu_milli=milli), placed=at(place), **fields)


def share(name: str, milli: int, place: str, **fields: object) -> Task:
    return Task(id=name, request=Request(gpus=1, gpu_milli=milli), placed=at(place), **fields)


def problem_of(*tasks: Task, nodes: tuple[Node, ...] = NODES, **budget: object) -> Problem:
    return Problem(version=1, nodes=nodes, tasks=tasks, budget=replace(DETERMINISTIC, **budget))


def moved(problem: Problem) -> list[str]:
    """The tasks that the quick repair moves; it must break nothing."""
    answer = mended(problem)
    assert slot_violations(problem, answer) == ()
    return [t.id for t in problem.tasks if is_touched(t, answer.get(t.id, ()))]


CASES = {
    "an over-full node": ((cpu("x", 6000, "a"), cpu("y", 6000, "a", move_cost=3)), NODES, ["x"]),
    "one that is enough by itself": (
        (cpu("x", 1000, "a"), cpu("y", 1000, "a"), cpu("z", 9000, "a")),
        NODES,
        ["x"],
    ),
    "two cheap ones before a dear one": (
        (cpu("x", 4000, "a"), cpu("y", 4000, "a"), cpu("z", 8000, "a", move_cost=3)),
        NODES,
        ["x", "y"],
    ),
    "an over-full device": ((share("x", 600, "a0"), share("y", 500, "a0")), NODES, ["y"]),
    "device memory": (
        tuple(
            Task(id=i, request=Request(gpus=1, gpu_milli=100, gpu_memory_mib=60), placed=at("a0"))
            for i in "xy"
        ),
        NODES,
        ["x"],
    ),
    "separate tasks": (
        (cpu("x", 1, "a", separate_from=("y",)), cpu("y", 1, "a")),
        NODES,
        ["x"],
    ),
    "a part of a gang": (
        (cpu("x", 4000, "a a a", replicas=3), cpu("y", 10_000, "")),
        (*NODES, Node(id="c", cpu_milli=10_000)),
        ["x"],
    ),
    "what may not move": (
        (cpu("x", 6000, "a", preemptible=False), cpu("y", 6000, "a")),
        NODES,
        ["y"],
    ),
    "no set is enough": ((cpu("x", 11_000, "a"), cpu("y", 2000, "a")), NODES, []),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cheapest_set_moves_off_a_broken_place(case: str) -> None:
    tasks, nodes, expected = CASES[case]
    assert moved(problem_of(*tasks, nodes=nodes)) == expected


@pytest.mark.parametrize("case", CASES)
def test_the_exact_search_mends_no_less_and_moves_no_dearer(case: str) -> None:
    tasks, nodes, expected = CASES[case]
    problem = problem_of(*tasks, nodes=nodes)
    plan = solve(problem)
    assert plan.status is Status.OPTIMAL
    assert first_of(plan)[0] == "repair"
    assert first_of(plan)[1] == repair(problem, mended(problem))
    assert (len(plan.moved), plan.evicted) == (len(expected), ())


def first_of(plan: Plan) -> tuple[str, int]:
    return plan.objective[0].name, plan.objective[0].value


def test_whoever_turns_out_not_to_be_needed_is_given_back() -> None:
    # By cost per core x, y and z would go; y, of 3000, stays: the other two free the 6000.
    tasks = (
        cpu("x", 2000, "a", move_cost=1),
        cpu("y", 3000, "a", move_cost=2),
        cpu("z", 4000, "a", move_cost=3),
        cpu("rest", 7000, "a", preemptible=False),
    )
    assert moved(problem_of(*tasks)) == ["x", "z"]


def test_a_place_that_cannot_be_mended_is_left_as_it_is() -> None:
    full = cpu("full", 10_000, "b")
    problem = problem_of(cpu("x", 6000, "a"), cpu("y", 6000, "a"), full)
    assert moved(problem) == []
    assert first_of(solve(problem)) == ("repair", 1)


def test_max_moves_bounds_the_repair() -> None:
    tasks = [cpu(i, 4000, "a") for i in "wxyz"]  # two have to go
    assert moved(problem_of(*tasks, max_moves=1)) == []
    assert len(moved(problem_of(*tasks, max_moves=2))) == 2


def test_a_short_gang_is_made_whole_without_touching_it_where_there_is_room() -> None:
    problem = problem_of(cpu("g", 4000, "a", replicas=3))
    answer = mended(problem)
    assert len(answer["g"]) == 3
    assert moved(problem) == []


def test_a_short_gang_moves_to_where_all_of_it_fits() -> None:
    gang = cpu("g", 4000, "a", replicas=2, pack_within="node")
    problem = problem_of(gang, cpu("x", 6000, "a", preemptible=False))
    assert mended(problem)["g"] == at("b b")


def test_repair_comes_before_what_waits_and_a_victim_is_taken_only_for_the_urgent() -> None:
    over = (cpu("x", 6000, "a"), cpu("y", 6000, "a"))
    waiting = cpu("w", 10_000, "")
    plan = solve(problem_of(*over, waiting))
    assert [entry.task for entry in plan.unplaced] == ["w"]
    assert len(plan.moved) == 1
    assert plan.evicted == ()


def test_an_unbroken_start_is_left_alone() -> None:
    problem = problem_of(cpu("x", 6000, "a"), cpu("y", 6000, "b"))
    assert mended(problem) == slots_before(problem)
    assert first_of(solve(problem))[0] == "placed"


def test_what_may_not_be_touched_bounds_the_repair() -> None:
    tasks = (cpu("x", 6000, "a", preemptible=False), cpu("y", 6000, "a", preemptible=False))
    plan = solve(problem_of(*tasks, seconds=0))
    assert (plan.objective[0].value, plan.objective[0].bound) == (1, 1)
