"""The order in which a plan is carried out, case by case; the rule that judges it, (C15)."""

from dataclasses import replace

import pytest

from solver.check import violations
from solver.plan import Placement, Plan, Stats, Status, Step, StepKind
from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.score import Slots
from solver.steps import order_steps

WHOLE = Request(gpus=1)
NODES = tuple(
    Node(id=n, cpu_milli=4000, devices=(Device(id="0"), Device(id="1"))) for n in ("a", "b", "c")
)


def at(place: str) -> tuple[Slot, ...]:
    """``a0`` is device 0 of node a, ``a`` the node alone; several are parted by spaces."""
    return tuple(Slot(node=p[0], devices=tuple(p[1:])) for p in place.split())


def task(name: str, place: str = "", **fields: object) -> Task:
    request = fields.pop("request", WHOLE)
    return Task(id=name, request=request, placed=at(place), **fields)


def order(tasks: tuple[Task, ...], after: dict[str, str]) -> list[str]:
    """The steps as ``WAVE kind task places``."""
    problem = Problem(version=1, nodes=NODES, tasks=tasks)
    slots: Slots = {name: at(place) for name, place in after.items()}
    return [
        f"{s.wave} {s.kind} {s.task} " + " ".join(r.node + "".join(r.devices) for r in s.replicas)
        for s in order_steps(problem, slots)
    ]


def test_what_runs_and_stays_takes_no_step() -> None:
    assert order((task("x", "a0"), task("y")), {"x": "a0"}) == []


def test_where_nothing_stops_all_start_at_once_the_urgent_first() -> None:
    tasks = (task("x"), task("y", priority=1))
    assert order(tasks, {"x": "a0", "y": "a1"}) == ["0 start y a1", "0 start x a0"]


def test_a_victim_stops_before_its_place_is_taken() -> None:
    tasks = (task("old", "a0"), task("new", priority=1))
    assert order(tasks, {"new": "a0"}) == ["0 stop old a0", "1 start new a0"]


def test_a_task_starts_in_the_first_wave_where_it_waits_for_nobody() -> None:
    tasks = (task("old", "a0"), task("new", priority=1), task("free"))
    assert order(tasks, {"new": "a0", "free": "a1"})[:2] == ["0 stop old a0", "0 start free a1"]


def test_a_moved_task_stops_only_when_its_new_place_is_free() -> None:
    tasks = (task("x", "a0"), task("y", "b0"))
    assert order(tasks, {"x": "b0", "y": "c0"}) == [
        "0 stop y b0",
        "1 stop x a0",
        "1 start y c0",
        "2 start x b0",
    ]


def test_two_that_change_places_both_stop_first() -> None:
    tasks = (task("x", "a0"), task("y", "b0"))
    assert order(tasks, {"x": "b0", "y": "a0"}) == [
        "0 stop x a0",
        "0 stop y b0",
        "1 start x b0",
        "1 start y a0",
    ]


def test_a_gang_starts_its_moved_and_new_replicas_together_and_keeps_the_rest() -> None:
    gang = task("g", "a0 a1", replicas=3, min_replicas=2)
    assert order((gang,), {"g": "a0 b0 b1"}) == ["0 stop g a1", "1 start g b0 b1"]


def test_a_node_without_room_for_both_is_waited_for() -> None:
    half = Request(cpu_milli=2500)
    tasks = (task("x", "a", request=half), task("y", "b", request=half))
    assert order(tasks, {"x": "b", "y": "c"})[0] == "0 stop y b"


def test_separate_tasks_never_meet_on_the_way() -> None:
    light = Request(cpu_milli=1)
    tasks = (
        task("x", "a", request=light, separate_from=("y",)),
        task("y", "b", request=light),
    )
    assert order(tasks, {"x": "b", "y": "c"}) == [
        "0 stop y b",
        "1 stop x a",
        "1 start y c",
        "2 start x b",
    ]


def test_an_overfull_node_that_stays_so_needs_no_more_than_it_ends_with() -> None:
    heavy = Request(cpu_milli=3000, gpus=1)
    tasks = (task("x", "a0", request=heavy), task("y", "a1", request=heavy))
    steps = order(tasks, {"x": "a1", "y": "a0"})  # they change devices; the node stays over-full
    assert [step[:6] for step in steps] == ["0 stop", "0 stop", "1 star", "1 star"]


TWO = Problem(version=1, nodes=NODES, tasks=(task("x", "a0"), task("y", "b0")))
SWAPPED = {"x": at("b0"), "y": at("a0")}


def stop(name: str, place: str, wave: int) -> Step:
    return Step(kind=StepKind.STOP, task=name, replicas=at(place), wave=wave)


def start(name: str, place: str, wave: int) -> Step:
    return Step(kind=StepKind.START, task=name, replicas=at(place), wave=wave)


SWAP = (stop("x", "a0", 0), stop("y", "b0", 0), start("x", "b0", 1), start("y", "a0", 1))


def faults(steps: tuple[Step, ...]) -> set[str]:
    """The codes of (C15) that these steps break on the way to SWAPPED."""
    plan = Plan(
        version=1,
        status=Status.FEASIBLE,
        placements=tuple(Placement(task=t, replicas=slots) for t, slots in SWAPPED.items()),
        steps=steps,
        stats=Stats(seconds=0, quick_seconds=0, workers=1, digest=""),
    )
    return {v.code for v in violations(TWO, plan) if v.rule == "C15"}


def test_a_plan_without_steps_says_nothing_wrong() -> None:
    assert faults(()) == set()


def test_right_steps_break_nothing() -> None:
    assert faults(SWAP) == set()


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        (SWAP[:3], "step_end"),
        (tuple(replace(s, wave=0) for s in SWAP), "step_room"),
        (SWAP[2:] + SWAP[:2], "step_order"),
        ((SWAP[1], replace(SWAP[2], wave=1), replace(SWAP[0], wave=2)), "step_double_run"),
        ((*SWAP, stop("x", "a0", 2)), "step_stop"),
        ((*SWAP, start("x", "c0", 2)), "step_start"),
        ((*SWAP, start("unknown", "c0", 2)), "step_start"),
        ((*SWAP, stop("unknown", "c0", 2)), "step_stop"),
    ],
)
def test_wrong_steps_are_named(steps: tuple[Step, ...], code: str) -> None:
    assert code in faults(steps)
