"""For whom a round holds room: the gangs that have waited before, where the time plan has them."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from app import log
from app.deps import Context
from app.durations import history
from app.errors import ServiceError
from app.planning.holds import Held, hold
from app.planning.snapshot import Snapshot
from app.planning.solving import Solver
from app.planning.timing import answered, question
from solver.scheduling.timeplan import FRACTIONS, HeldRoom, TimePlan, held

_log = log.get("holding")
_GUESS_SECONDS = 3_600.0
"""For a task of which nothing is known and that hasn't run for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a round holds, and who may use it meanwhile."""

    held: Held
    starts_in_seconds: Mapping[str, float]
    """By gang."""
    ends_in_seconds: Mapping[str, float]
    """By task whose duration is known, when it has ended in nine cases of ten."""

    def may_be_used(self, waiting: Iterable[str]) -> bool:
        """Whether any of these is gone before the last of the gangs starts."""
        last = max(self.held.until_seconds.values())
        return any(self.ends_in_seconds.get(task, math.inf) <= last for task in waiting)


def blocked(look: Snapshot) -> set[str]:
    """Gangs that an earlier round has left waiting, of more than one device."""
    return {
        task.id
        for task in look.problem.tasks
        if task.id in look.pending
        and look.pending[task.id].waiting
        and task.request.gpus * task.fewest > 1
    }


async def holding(ctx: Context, solver: Solver, look: Snapshot) -> Holding | None:
    """What to hold in this round, if anything."""
    gangs = blocked(look)
    most = ctx.settings.hold_gangs
    if not gangs or not most:
        return None
    async with ctx.database.read() as session:
        carried = await history.carried_seconds(session)
    asked = await asyncio.to_thread(question, look, ctx.durations.model, carried)
    known = asked.forecasts
    # An ETA says that it knows nothing. Room has to be held all the same, or gangs starve where
    # nobody says how long tasks take.
    guessed = {
        task.id: _guess(look, task.id) for task in look.problem.tasks if task.id not in known
    }
    asked = replace(asked, forecasts={**guessed, **known}, draws=1)
    try:
        plan = await answered(solver, asked)
    except ServiceError as error:
        _log.error("no_time_plan", reason=error.detail)
        return None
    rooms = _central(plan, gangs, most)
    held_now = hold(look.problem, rooms)
    return held_now and Holding(
        held=held_now,
        starts_in_seconds={room.task: room.p50_seconds for room in rooms},
        ends_in_seconds={task: _nine_in_ten(seconds) for task, seconds in known.items()},
    )


def _central(plan: TimePlan, gangs: set[str], most: int) -> list[HeldRoom]:
    """The gangs' rooms as they all fit together: where everybody takes the median time."""
    when = {start.task: start.central_seconds for start in plan.starts}
    return [
        replace(room, p50_seconds=seconds)
        for room in held(plan)
        if room.task in gangs and (seconds := when[room.task]) is not None
    ][:most]


def _guess(look: Snapshot, task: str) -> tuple[float, ...]:
    """Quantiles of the remaining time when all that's known is how long it has run (docs/model.md,
    T8): at fraction f, age * f / (1 - f). As old again, at the median."""
    started = look.tasks[task].started_at
    age = _GUESS_SECONDS
    if started is not None:
        age = max(-look.moment.seconds_until(started), _GUESS_SECONDS)
    return tuple(age * f / (1 - f) for f in FRACTIONS)


def _nine_in_ten(seconds: tuple[float, ...]) -> float:
    """Between the quantiles at 85 and 95 %."""
    return (seconds[-2] + seconds[-1]) / 2
