"""What the time plan says of starts, room to hold and use."""

import math

import numpy as np
import pytest

from solver.errors import InvalidProblem
from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.scheduling.timeplan import FRACTIONS, TimeQuestion, Window, held
from solver.scheduling.timeplan.check import violations
from solver.scheduling.timeplan.durations import at_fractions, drawn
from solver.scheduling.timeplan.planning import play_draws, time_plan
from tests.timeplans import flat, question, stays

SPREAD = tuple(100.0 * (i + 1) for i in range(len(FRACTIONS)))


def asked_of(*tasks: Task, nodes: int = 1, gpus: int = 2, **more: object) -> TimeQuestion:
    cluster = tuple(
        Node(id=f"n{n}", devices=tuple(Device(id=f"g{g}") for g in range(gpus)))
        for n in range(nodes)
    )
    problem = Problem(version=1, nodes=cluster, tasks=tasks)
    return TimeQuestion(problem=problem, **more)  # pyright: ignore[reportArgumentType]


def running(name: str, *devices: str, node: str = "n0") -> Task:
    request = Request(gpus=len(devices))
    return Task(id=name, request=request, placed=(Slot(node=node, devices=devices),))


def test_a_start_is_told_as_its_median_and_as_what_holds_in_nine_of_ten() -> None:
    waits = Task(id="w", request=Request(gpus=2))
    plan = time_plan(asked_of(running("r", "g0"), waits, forecasts={"r": SPREAD}, draws=201))
    start = plan.starts[0]
    assert start.p50_seconds == pytest.approx(550, rel=0.03)
    assert start.p90_seconds == pytest.approx(950, rel=0.03)
    assert start.nodes == ("n0",)
    assert start.waits_for == ("r",)
    assert start.why == "waits for r to end"
    assert plan.unknown == ("w",)


def test_a_task_with_room_has_it_now() -> None:
    start = time_plan(asked_of(Task(id="w", request=Request(gpus=1)))).starts[0]
    assert (start.p50_seconds, start.p90_seconds, start.why) == (0.0, 0.0, "has room now")


def test_what_waits_for_somebody_of_unknown_duration_is_not_told_a_time() -> None:
    plan = time_plan(asked_of(running("r", "g0", "g1"), Task(id="w", request=Request(gpus=1))))
    start = plan.starts[0]
    assert (start.p50_seconds, start.p90_seconds, start.never) == (None, None, 1.0)
    assert start.slots == ()
    assert set(plan.unknown) == {"r", "w"}


def test_room_is_held_for_gangs_that_wait_and_for_nobody_else() -> None:
    gang = Task(id="gang", replicas=2, request=Request(gpus=2))
    alone = Task(id="alone", request=Request(gpus=1))
    plan = time_plan(
        asked_of(
            running("r", "g0"),
            running("s", "g0", node="n1"),
            gang,
            alone,
            nodes=2,
            forecasts={"r": flat(10), "s": flat(20), "gang": flat(5), "alone": flat(1000)},
        )
    )
    rooms = held(plan)
    assert [room.task for room in rooms] == ["gang"]
    assert rooms[0].p50_seconds == 20.0
    assert {slot.key for slot in rooms[0].slots} == {("n0", ("g0", "g1")), ("n1", ("g0", "g1"))}


@pytest.mark.parametrize("seed", range(8))
def test_room_that_is_held_belongs_to_one_draw_and_so_goes_together(seed: int) -> None:
    asked = question(seed)
    seconds = {side: drawn(tasks, asked.forecasts, 2, 0) for side, tasks in _sides(asked).items()}
    draws = play_draws(asked, seconds["running"], seconds["waiting"])
    central = {
        task.id: float(column)
        for side, tasks in _sides(asked).items()
        for task, column in zip(tasks, seconds[side][0], strict=True)
    }
    assert list(violations(asked, central, stays(asked, draws))) == []


def _sides(asked: TimeQuestion) -> dict[str, tuple[Task, ...]]:
    return {"running": asked.running, "waiting": asked.waiting}


def test_use_is_what_is_held_at_each_moment() -> None:
    tasks = running("r", "g0"), Task(id="w", request=Request(gpus=2))
    plan = time_plan(asked_of(*tasks, forecasts={"r": flat(10), "w": flat(5)}))
    assert [(use.seconds, use.gpu_milli) for use in plan.use] == [(0, 1000), (10, 2000), (15, 0)]
    assert plan.capacity_gpu_milli == 2000


def test_the_same_question_has_the_same_answer() -> None:
    asked = question(3, draws=31)
    assert time_plan(asked) == time_plan(asked)


def test_what_a_task_takes_in_a_draw_does_not_depend_on_who_else_is_there() -> None:
    first, second = Task(id="a"), Task(id="b")
    forecasts = {"a": SPREAD, "b": SPREAD}
    alone, both = drawn([second], forecasts, 9, 4), drawn([first, second], forecasts, 9, 4)
    assert np.array_equal(alone[:, 0], both[:, 1])
    assert not np.array_equal(both[1:, 0], both[1:, 1])


def test_draws_follow_the_quantiles() -> None:
    seconds = drawn([Task(id="a")], {"a": SPREAD}, 1000, 0)[1:, 0]
    assert np.quantile(seconds, FRACTIONS) == pytest.approx(SPREAD, rel=0.01)


def test_quantiles_of_nothing_are_no_division_by_zero() -> None:
    table = np.array([(0.0,) * 9 + (5.0,)])
    assert np.isfinite(at_fractions(table, np.array([[0.01], [0.5], [0.99]]))).all()


def test_every_fault_of_a_question_is_named() -> None:
    window = Window(nodes=("gone",), start_seconds=math.nan, end_seconds=0, queue="nobody")
    with pytest.raises(InvalidProblem) as refused:
        asked_of(
            Task(id="a"),
            Task(id="b"),
            forecasts={"a": (1.0,), "b": (math.nan,) * 10, "c": SPREAD[::-1]},
            windows=(window,),
            horizon_seconds=math.inf,
            draws=0,
            seed=-1,
        )
    assert [fault.path for fault in refused.value.faults] == [
        "forecasts.a",
        "forecasts.b",
        "forecasts.c",
        "forecasts.c",
        "windows[0].nodes[0]",
        "windows[0].queue",
        "windows[0].start_seconds",
        "windows[0].end_seconds",
        "horizon_seconds",
        "draws",
        "seed",
    ]


def test_nobody_waits_and_nothing_is_there() -> None:
    assert time_plan(TimeQuestion(problem=Problem(version=1, nodes=(), tasks=()))).starts == ()
    lonely = TimeQuestion(problem=Problem(version=1, nodes=(), tasks=(Task(id="w"),)))
    assert time_plan(lonely).starts[0].p50_seconds is None
