"""A snapshot to the question of who starts when, and the way to its answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from app.allocations.service import running_seconds
from app.durations.model import Model
from app.planning.documents import parse
from app.planning.policy import BOOKING_LABEL
from app.planning.questions import QUESTIONS, TIME
from app.planning.snapshot import Snapshot
from app.planning.solving import Solver
from app.tasks import service as tasks
from solver.problem import Task
from solver.replay import json_bytes
from solver.scheduling.timeplan import TimePlan, TimeQuestion, Window

DRAWS = 31


def question(snapshot: Snapshot, model: Model, carried: Mapping[str, float]) -> TimeQuestion:
    """Who starts when, by what the model knows of durations. ``carried``: by task, the seconds that
    earlier attempts have done already."""
    forecasts = {}
    for task in snapshot.problem.tasks:
        seconds = _seconds_left(snapshot, model, carried, task)
        if seconds is not None:
            forecasts[task.id] = seconds
    known = {node.id for node in snapshot.problem.nodes}
    queues = {"default", *(queue.id for queue in snapshot.problem.queues)}
    return TimeQuestion(
        problem=replace(snapshot.problem, tasks=tuple(map(_unbooked, snapshot.problem.tasks))),
        forecasts=forecasts,
        windows=tuple(
            Window(
                nodes=tuple(node for node in booking.nodes if node in known),
                start_seconds=snapshot.moment.seconds_until(booking.starts_at),
                end_seconds=snapshot.moment.seconds_until(booking.ends_at),
                # Nobody may use it who isn't here: as if it were nobody's.
                queue=booking.queue if booking.queue in queues else None,
            )
            for booking in snapshot.moment.policy.bookings
            if booking.ends_at > max(booking.starts_at, snapshot.moment.now)
        ),
        draws=DRAWS,
    )


def _seconds_left(
    snapshot: Snapshot, model: Model, carried: Mapping[str, float], task: Task
) -> tuple[float, ...] | None:
    row, spec = snapshot.tasks[task.id], snapshot.specs[task.id]
    done = carried.get(task.id, 0.0)
    if tasks.live(row) and task.id not in snapshot.leaving:
        done += running_seconds(tasks.current(row), snapshot.moment.now) or 0.0
    forecast = model.forecast(spec, elapsed_seconds=done)
    return forecast and tuple(max(seconds - done, 0.0) for seconds in forecast.seconds)


def _unbooked(task: Task) -> Task:
    """Without what keeps it off booked nodes in a round: here that is what windows are for."""
    if BOOKING_LABEL not in task.node_selector:
        return task
    selector = {k: v for k, v in task.node_selector.items() if k != BOOKING_LABEL}
    return replace(task, node_selector=selector)


def parse_question(data: bytes) -> TimeQuestion:
    """Raises InvalidProblem with every fault."""
    return parse("timequestion", data)


def parse_answer(data: bytes) -> TimePlan:
    """What the solver's process has answered."""
    return parse("timeplan", data)


async def answered(solver: Solver, asked: TimeQuestion) -> TimePlan:
    """The time plan. Raises a ServiceError when there is none."""
    data = await asyncio.to_thread(json_bytes, asked)
    answer = await solver.solve(data, QUESTIONS[TIME].seconds, TIME)
    return await asyncio.to_thread(parse_answer, answer)
