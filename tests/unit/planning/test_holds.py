"""Room that is held for gangs, and who may use it meanwhile."""

from dataclasses import replace

from app.planning.holds import Held, backfill, hold, holder, without_stand_ins
from solver.pipeline import solve
from solver.plan import Plan
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task
from solver.scheduling.timeplan import HeldRoom

BUDGET = Budget(deterministic=True, seconds=1)
NODES = tuple(
    Node(id=n, cpu_milli=8000, devices=tuple(Device(id=f"{n}-{g}") for g in range(2))) for n in "ab"
)
GANG = Task(id="gang", replicas=2, request=Request(gpus=2, cpu_milli=2000), priority=5)
WHOLE = (Slot(node="a", devices=("a-0", "a-1")), Slot(node="b", devices=("b-0", "b-1")))
ROOM = HeldRoom(task="gang", p50_seconds=600.0, p90_seconds=900.0, slots=WHOLE)


def runs(name: str, device: str, *, priority: int = 5) -> Task:
    slot = Slot(node=device[0], devices=(device,))
    return Task(id=name, priority=priority, request=Request(gpus=1), placed=(slot,))


def waits(name: str, *, priority: int = 5) -> Task:
    return Task(id=name, priority=priority, request=Request(gpus=1))


def problem(*tasks: Task, budget: Budget = BUDGET) -> Problem:
    return Problem(version=1, nodes=NODES, tasks=tasks, budget=budget)


def placed(plan: Plan) -> set[str]:
    return {one.task for one in plan.placements}


def solved(held: Held | None, real: Problem) -> Plan:
    assert held is not None
    return without_stand_ins(real, solve(held.problem))


BUSY = problem(GANG, runs("r", "a-0"), waits("small"))


def test_nobody_of_the_gangs_level_or_below_takes_the_room_that_is_held() -> None:
    assert "small" in placed(solve(BUSY))
    for priority in (5, 4):
        asked = replace(BUSY, tasks=(*BUSY.tasks[:2], waits("small", priority=priority)))
        held = hold(asked, [ROOM])
        assert held is not None
        assert placed(solved(held, asked)) == {"r"}
        assert held.until_seconds == {"a": 600.0, "b": 600.0}


def test_who_is_above_the_gang_takes_it() -> None:
    asked = replace(BUSY, tasks=(*BUSY.tasks[:2], waits("urgent", priority=6)))
    assert placed(solved(hold(asked, [ROOM]), asked)) == {"r", "urgent"}


def test_the_gang_takes_its_own_room_and_displaces_nobody_of_its_level() -> None:
    empty = problem(GANG, waits("small"))
    assert placed(solved(hold(empty, [ROOM]), empty)) == {"gang"}
    assert placed(solved(hold(BUSY, [ROOM]), BUSY)) == {"r"}
    meek = replace(BUSY, tasks=(GANG, runs("r", "a-0", priority=4)))
    assert placed(solved(hold(meek, [ROOM]), meek)) == {"gang"}


def test_what_ends_before_the_gang_starts_is_backfilled() -> None:
    held = hold(BUSY, [ROOM])
    assert held is not None
    assert backfill(BUSY, held, {}) is None
    assert backfill(BUSY, held, {"small": 601.0}) is None
    asked = backfill(BUSY, held, {"small": 600.0})
    assert asked is not None
    assert placed(solve(asked)) == {"r", "small"}
    assert "gang" not in {task.id for task in asked.tasks}


def test_room_is_held_only_as_far_as_it_is_free() -> None:
    held = hold(BUSY, [ROOM])
    assert held is not None
    stand_ins = {task.id: task for task in held.problem.tasks if holder(task.id)}
    assert {one.placed[0].devices for one in stand_ins.values()} == {("a-1",), ("b-0", "b-1")}
    assert sorted(one.request.cpu_milli for one in stand_ins.values()) == [1000, 2000]
    assert {holder(name) for name in stand_ins} == {"gang"}
    full = problem(GANG, *(runs(d, d) for d in ("a-0", "a-1", "b-0", "b-1")))
    assert hold(full, [ROOM]) is None


def test_two_gangs_never_hold_the_same_device() -> None:
    other = replace(GANG, id="other")
    asked = replace(BUSY, tasks=(*BUSY.tasks, other))
    held = hold(asked, [ROOM, replace(ROOM, task="other")])
    assert held is not None
    devices = [
        device
        for task in held.problem.tasks
        if holder(task.id)
        for slot in task.placed
        for device in slot.devices
    ]
    assert sorted(devices) == ["a-1", "b-0", "b-1"]
