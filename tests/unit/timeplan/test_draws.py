"""Each draw against the specification, which takes every start apart from all the others."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.problem import Device, Node, Problem, Queue, Request, Slot, Task
from solver.scheduling.timeplan import TimeQuestion, Window
from solver.scheduling.timeplan.check import Stay, violations
from tests.timeplans import flat, played, question, stays


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_every_task_starts_as_early_as_it_can_beside_those_before_it(seed: int) -> None:
    asked = question(seed)
    draws, seconds = played(asked)
    assert list(violations(asked, seconds, stays(asked, draws))) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_a_later_task_delays_nobody_before_it(seed: int) -> None:
    asked = question(seed)
    last = asked.waiting[-1:]
    rest = tuple(t for t in asked.problem.tasks if t not in last)
    ids = {task.id for task in rest}
    rest = tuple(
        replace(t, separate_from=tuple(o for o in t.separate_from if o in ids)) for t in rest
    )
    fewer = replace(
        asked,
        problem=replace(asked.problem, tasks=rest),
        forecasts={name: s for name, s in asked.forecasts.items() if name in ids},
    )
    with_it, without = played(asked)[0], played(fewer)[0]
    count = without.answer.start.shape[1]
    assert np.array_equal(with_it.answer.start[:, :count], without.answer.start)


@pytest.mark.parametrize("seconds", list(product((1.0, 2.0, 3.0), repeat=4)))
def test_on_one_machine_it_is_the_schedule_that_counting_gives(
    seconds: tuple[float, ...],
) -> None:
    """Three devices, tasks of 1, 2, 3 and 1 of them: tried at every whole second."""
    sizes = (1, 2, 3, 1)
    tasks = tuple(Task(id=f"t{i}", request=Request(gpus=gpus)) for i, gpus in enumerate(sizes))
    asked = _asked(tasks, forecasts={f"t{i}": flat(s) for i, s in enumerate(seconds)}, gpus=3)
    use = [0] * 100
    expected = []
    for gpus, length in zip(sizes, seconds, strict=True):
        stretches = (range(s, s + int(length)) for s in range(80))
        stretch = next(r for r in stretches if all(use[i] + gpus <= 3 for i in r))
        for i in stretch:
            use[i] += gpus
        expected.append(float(stretch[0]))
    assert list(played(asked)[0].answer.start[0]) == expected


def test_who_runs_for_ever_makes_no_room() -> None:
    asked = _asked((_runs("r"), Task(id="w", request=Request(gpus=1))), forecasts={})
    assert math.isinf(played(asked)[0].answer.start[0, 0])


def test_a_short_task_starts_before_a_gang_that_waits_and_a_long_one_does_not() -> None:
    gang = Task(id="gang", priority=1, request=Request(gpus=2))
    short, long = (
        Task(id="short", request=Request(gpus=1)),
        Task(id="long", request=Request(gpus=1)),
    )
    asked = _asked(
        (_runs("r"), gang, long, short),
        forecasts={"r": flat(100), "gang": flat(50), "long": flat(101), "short": flat(100)},
        gpus=2,
    )
    found = stays(asked, played(asked)[0])
    assert {name: found[name].start for name in ("gang", "long", "short")} == {
        "gang": 100.0,
        "long": 150.0,
        "short": 0.0,
    }


def test_a_window_lets_in_its_queue_and_those_that_end_before_it() -> None:
    tasks = tuple(
        Task(id=name, queue=queue, request=Request(gpus=1))
        for name, queue in (("ends-before", "b"), ("its-own", "a"), ("too-long", "b"))
    )
    window = Window(nodes=("n",), start_seconds=10, end_seconds=40, queue="a")
    forecasts = {"ends-before": flat(10), "its-own": flat(20), "too-long": flat(20)}
    asked = _asked(tasks, forecasts=forecasts, windows=(window,), gpus=1)
    found = stays(asked, played(asked)[0])
    assert [found[t.id].start for t in tasks] == [0.0, 10.0, 40.0]


def test_the_specification_finds_a_task_that_starts_too_early_or_too_late() -> None:
    asked = _asked((_runs("r"), Task(id="w", request=Request(gpus=1))), forecasts={"r": flat(10)})
    draws, seconds = played(asked)
    right = stays(asked, draws)
    for start in (5.0, 11.0):
        moved = Stay(task=right["w"].task, slots=right["w"].slots, start=start, end=math.inf)
        assert list(violations(asked, seconds, right | {"w": moved}))
    left_out = {name: stay for name, stay in right.items() if name != "w"}
    assert list(violations(asked, seconds, left_out))


def _runs(name: str) -> Task:
    slot = Slot(node="n", devices=("g0",))
    return Task(id=name, request=Request(gpus=1), placed=(slot,))


def _asked(
    tasks: tuple[Task, ...],
    *,
    forecasts: dict[str, tuple[float, ...]],
    gpus: int = 1,
    windows: tuple[Window, ...] = (),
) -> TimeQuestion:
    node = Node(id="n", devices=tuple(Device(id=f"g{i}") for i in range(gpus)))
    queues = tuple(Queue(id=queue) for queue in sorted({task.queue for task in tasks}))
    problem = Problem(version=1, nodes=(node,), tasks=tasks, queues=queues)
    return TimeQuestion(problem=problem, forecasts=forecasts, windows=windows)
