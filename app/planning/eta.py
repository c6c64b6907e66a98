"""When each waiting task starts: reckoned after each round that left somebody waiting, and kept in
memory."""

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from app import log
from app.deps import Context
from app.durations import history
from app.planning.snapshot import Snapshot, take
from app.planning.solving import Solver
from app.planning.timing import answered, question
from app.tasks import service as tasks
from solver.problem import Budget
from solver.scheduling.timeplan import Start, TimePlan
from solver.scheduling.timeplan.calibration import (
    OUTCOMES_KEPT,
    Calibration,
    Outcome,
    calibrated,
)

_log = log.get("eta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was first said of a task's start: as it was drawn, and as it was told."""

    at: datetime
    p50_seconds: float
    p90_seconds: float
    told_p90_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """A task's start as it's told: stretched by what earlier waits have taught."""

    start: Start
    p50_seconds: float | None
    p90_seconds: float | None


class Etas:
    """The newest time plan. Before the first one is reckoned it knows nobody."""

    def __init__(self, ctx: Context, solver: Solver) -> None:
        self._ctx = ctx
        self._solver = solver
        self._turn = asyncio.Lock()
        self._looks = 0
        """How many were begun."""
        self._said: dict[str, Prediction] = {}
        self._outcomes: deque[Outcome] = deque(maxlen=OUTCOMES_KEPT)
        self._starts: dict[str, Start] = {}
        self.plan: TimePlan | None = None
        self.as_of: datetime | None = None
        self.seconds = 0.0
        """How long the last one took to reckon."""
        self.calibration = Calibration()

    def of(self, task: str) -> Eta | None:
        start = self._starts.get(task)
        return None if start is None else self._told(start)

    def all(self) -> list[Eta]:
        """In the order in which tasks get their room."""
        return [self._told(start) for start in self._starts.values()]

    async def refresh(self) -> None:
        """Reckon anew. Who asks while others wait for it too has the same look, if that was begun
        after all of them asked."""
        asked = self._looks
        async with self._turn:
            if self._looks > asked:
                return
            self._looks += 1
            began = self._ctx.clock.monotonic()
            async with self._ctx.database.read() as session:
                snapshot = await take(self._ctx, session, Budget(max_moves=0))
                carried = await history.carried_seconds(session)
            if snapshot.pending:
                plan = await ask(self._ctx, self._solver, snapshot, carried)
            else:
                plan = None
            self._learn(snapshot)
            self._keep(snapshot.moment.now, plan)
            self.seconds = self._ctx.clock.monotonic() - began

    def _keep(self, now: datetime, plan: TimePlan | None) -> None:
        self.plan, self.as_of = plan, now
        self._starts = {start.task: start for start in plan.starts} if plan is not None else {}
        for start in self._starts.values():
            if start.task not in self._said and start.p50_seconds and start.p90_seconds:
                self._said[start.task] = Prediction(
                    at=now,
                    p50_seconds=start.p50_seconds,
                    p90_seconds=start.p90_seconds,
                    told_p90_seconds=self._told(start).p90_seconds or 0.0,
                )

    def _learn(self, snapshot: Snapshot) -> None:
        """From those of whom a start was said, and who have started or wait still."""
        waiting = []
        for task, said in list(self._said.items()):
            row = snapshot.tasks.get(task)
            if row is None or row.cancelled:
                del self._said[task]  # it's over: it was short, or nobody wanted it any more
            elif task in snapshot.pending or task in snapshot.kept:
                waiting.append(_outcome(said, snapshot.moment.now, is_over=False))
            else:
                placed = [a.assigned_at for a in tasks.current(row)]
                if placed:
                    self._outcomes.append(_outcome(said, min(placed), is_over=True))
                del self._said[task]
        self.calibration = calibrated([*self._outcomes, *waiting])

    def _told(self, start: Start) -> Eta:
        p50, p90 = self.calibration.corrected(start.p50_seconds, start.p90_seconds)
        return Eta(start=start, p50_seconds=p50, p90_seconds=p90)


def _outcome(said: Prediction, until: datetime, *, is_over: bool) -> Outcome:
    return Outcome(
        p50_seconds=said.p50_seconds,
        p90_seconds=said.p90_seconds,
        told_p90_seconds=said.told_p90_seconds,
        waited_seconds=max((until - said.at).total_seconds(), 0.0),
        is_over=is_over,
    )


async def ask(
    ctx: Context, solver: Solver, snapshot: Snapshot, carried: dict[str, float]
) -> TimePlan:
    """The time plan of a snapshot. Raises a ServiceError when there is none."""
    asked = await asyncio.to_thread(question, snapshot, ctx.durations.model, carried)
    return await answered(solver, asked)
