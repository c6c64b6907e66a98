"""Whoever can go back to where it ran goes back, as long as that costs nothing."""

import pytest

from solver.check import slot_violations
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from solver.restore import put_back

NODES = tuple(Node(id=n, cpu_milli=4000, devices=(Device(id="0"),)) for n in "abc")


def at(place: str) -> tuple[Slot, ...]:
    """``a0`` is device 0 of node a, ``a`` the node alone; several are parted by spaces."""
    return tuple(Slot(node=p[0], devices=tuple(p[1:])) for p in place.split())


def whole(name: str, place: str = "", **fields: object) -> Task:
    return Task(id=name, request=Request(gpus=1), placed=at(place), **fields)


def restored(
    tasks: tuple[Task, ...], objective: tuple[str, ...] = ("placed",), **after: str
) -> dict[str, str]:
    problem = Problem(version=1, nodes=NODES, tasks=tasks, objective=objective, budget=Budget())
    slots = {name: at(place) for name, place in after.items()}
    assert slot_violations(problem, slots) == ()
    return {
        name: " ".join(slot.node + "".join(slot.devices) for slot in found)
        for name, found in put_back(problem, slots).items()
    }


def test_a_task_whose_old_place_is_free_goes_back() -> None:
    assert restored((whole("x", "a0"),), x="b0") == {"x": "a0"}


def test_an_evicted_task_whose_place_is_free_goes_back() -> None:
    tasks = (whole("x", "a0"), whole("u", priority=1), whole("v", "b0", priority=2))
    # u made x go and then v moved on: u may have its place, and x its own.
    assert restored(tasks, u="a0", v="c0") == {"u": "a0", "v": "b0"}


def test_two_that_changed_places_both_go_back() -> None:
    tasks = (whole("x", "a0"), whole("y", "b0"))
    assert restored(tasks, x="b0", y="a0") == {"x": "a0", "y": "b0"}


def test_a_chain_goes_back_as_one() -> None:
    tasks = (whole("x", "a0"), whole("y", "b0"))
    assert restored(tasks, x="b0", y="c0") == {"x": "a0", "y": "b0"}


def test_who_made_room_for_another_stays_where_it_went() -> None:
    tasks = (whole("x", "a0"), whole("new", node_selector={}, gpu_models=()))
    assert restored(tasks, x="b0", new="a0") == {"x": "b0", "new": "a0"}


def test_a_move_that_is_worth_something_stays() -> None:
    nodes_in_use = ("pack", "disruption")
    tasks = (
        Task(id="x", request=Request(cpu_milli=1), placed=at("a")),
        Task(id="y", request=Request(cpu_milli=1), placed=at("b")),
    )
    assert restored(tasks, nodes_in_use, x="a", y="a") == {"x": "a", "y": "a"}
    assert restored(tasks, ("disruption", "pack"), x="a", y="a") == {"x": "a", "y": "b"}


def test_a_grown_gang_keeps_what_it_gained() -> None:
    gang = whole("g", "a0", replicas=2, min_replicas=1)
    assert restored((gang,), g="b0 c0") == {"g": "a0 b0"}


@pytest.mark.parametrize("objective", [("placed",), ("fragmentation",), ("locality",)])
def test_a_gang_of_which_one_replica_moved_goes_back(objective: tuple[str, ...]) -> None:
    gang = whole("g", "a0 b0", replicas=2)
    assert restored((gang,), objective, g="a0 c0") == {"g": "a0 b0"}
