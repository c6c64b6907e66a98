"""From a question to who starts when (docs/model.md, "The time plan")."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solver.compiled.timeplan import play
from solver.compiled.timeprofile import NONE
from solver.compiled.timerecords import CAUSES, Answer
from solver.problem import WHOLE_DEVICE_MILLI, Node, Slot, Task
from solver.scheduling.timeplan.durations import CENTRAL, Seconds, drawn
from solver.scheduling.timeplan.layout import Layout, laid_out
from solver.scheduling.timeplan.outcome import Start, TimePlan, Use
from solver.scheduling.timeplan.question import TimeQuestion

USE_POINTS = 200
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """All draws of a question; the first is the central one."""

    layout: Layout
    nodes: tuple[Node, ...]
    running_seconds: Seconds
    """[J, R] that each running task still takes"""
    waiting_seconds: Seconds
    """[J, T]"""
    answer: Answer

    @property
    def waiting(self) -> tuple[Task, ...]:
        return self.layout.tasks[self.running_seconds.shape[1] :]

    def slots(self, draw: int, t: int) -> tuple[Slot, ...]:
        """Where the t-th waiting task starts in a draw."""
        gpus = self.waiting[t].request.gpus
        unit, place = self.layout.unit_start[t], self.layout.place_start[t]
        found = []
        for k in range(self.answer.replicas[draw, t]):
            node = self.nodes[self.answer.node[draw, unit + k]]
            first = place + k * gpus
            devices = self.answer.device[draw, first : first + gpus]
            found.append(
                Slot(node=node.id, devices=tuple(node.devices[d].id for d in sorted(devices)))
            )
        return tuple(found)

    def causes(self, draw: int, t: int) -> tuple[str, ...]:
        """The tasks whose end makes its room, latest first."""
        rows = self.answer.cause[draw, t]
        return tuple(self.layout.tasks[row].id for row in rows if row != NONE)


def play_draws(asked: TimeQuestion, running_seconds: Seconds, waiting_seconds: Seconds) -> Draws:
    """Who starts when and where in each draw, of durations that are given: [J, R] and [J, T]."""
    layout = laid_out(asked)
    draws, tasks = waiting_seconds.shape
    answer = Answer(
        start=np.full((draws, tasks), np.inf),
        replicas=np.zeros((draws, tasks), dtype=np.int64),
        node=np.full((draws, int(layout.unit_start[-1])), NONE, dtype=np.int64),
        device=np.full((draws, int(layout.place_start[-1])), NONE, dtype=np.int64),
        cause=np.full((draws, tasks, CAUSES), NONE, dtype=np.int64),
    )
    if asked.problem.nodes and tasks:
        play(
            layout.memory,
            layout.ground,
            layout.slots,
            layout.shape,
            np.ascontiguousarray(running_seconds),
            np.ascontiguousarray(waiting_seconds),
            layout.unit_start,
            layout.place_start,
            asked.horizon_seconds,
            answer,
        )
    return Draws(
        layout=layout,
        nodes=asked.problem.nodes,
        running_seconds=running_seconds,
        waiting_seconds=waiting_seconds,
        answer=answer,
    )


def load(asked: TimeQuestion) -> None:
    """Does nothing: with this module the compiled code is loaded."""
    del asked


def time_plan(asked: TimeQuestion, *, clock: Callable[[], float] | None = None) -> TimePlan:
    """Who starts when. ``clock`` isn't read: the work is bounded by the number of draws."""
    del clock
    running = drawn(asked.running, asked.forecasts, asked.draws, asked.seed)
    waiting = drawn(asked.waiting, asked.forecasts, asked.draws, asked.seed)
    draws = play_draws(asked, running, waiting)
    return TimePlan(
        starts=_starts(draws),
        use=_use(draws, asked.horizon_seconds),
        capacity_gpu_milli=WHOLE_DEVICE_MILLI * sum(len(n.devices) for n in draws.nodes),
        unknown=tuple(t.id for t in asked.problem.tasks if t.id not in asked.forecasts),
        horizon_seconds=asked.horizon_seconds,
    )


def _starts(draws: Draws) -> tuple[Start, ...]:
    random = draws.answer.start[CENTRAL + 1 :]
    if not random.shape[1]:
        return ()
    p50 = np.quantile(random, 0.5, axis=0, method="higher")
    p90 = np.quantile(random, 0.9, axis=0, method="higher")
    never = np.isinf(random).mean(axis=0)
    starts = []
    for t, task in enumerate(draws.waiting):
        slots, causes = draws.slots(CENTRAL, t), draws.causes(CENTRAL, t)
        starts.append(
            Start(
                task=task.id,
                p50_seconds=_known(p50[t]),
                p90_seconds=_known(p90[t]),
                never=float(never[t]),
                nodes=_likely_nodes(draws, t),
                slots=slots,
                central_seconds=_known(draws.answer.start[CENTRAL, t]),
                waits_for=causes,
                why=_why(_known(p50[t]), slots, causes),
            )
        )
    return tuple(starts)


def _known(seconds: np.float64) -> float | None:
    return float(seconds) if np.isfinite(seconds) else None


def _likely_nodes(draws: Draws, t: int) -> tuple[str, ...]:
    """As many nodes as it mostly needs, those on which it starts in most draws."""
    first, last = draws.layout.unit_start[t], draws.layout.unit_start[t + 1]
    nodes = draws.answer.node[:, first:last]
    here = nodes[nodes != NONE] if nodes.size > len(nodes) else nodes[nodes[:, 0] != NONE, 0]
    if not here.size:
        return ()
    starting = draws.answer.replicas[:, t] > 0
    if nodes.shape[1] == 1:
        needed = 1
    else:
        needed = int(np.median([len(np.unique(row[row != NONE])) for row in nodes[starting]]))
    values, counts = np.unique(here, return_counts=True)
    best = values[np.argsort(-counts, kind="stable")[:needed]]
    return tuple(sorted(draws.nodes[n].id for n in best))


def _why(p50: float | None, slots: Sequence[Slot], causes: Sequence[str]) -> str:
    if p50 is None:
        return "nothing that is known to end makes room for it within the horizon"
    if causes:
        return f"waits for {', '.join(causes[:NAMED])} to end"
    if slots and p50 > 0:
        return "waits for a booking to end"
    return "has room now"


def _use(draws: Draws, horizon: float) -> tuple[Use, ...]:
    """The median of what is in use, at up to USE_POINTS of the moments where most changes."""
    weight = np.array(
        [len(t.placed) * t.request.gpus * t.request.gpu_milli for t in draws.layout.tasks],
        dtype=np.int64,
    )
    of_one = np.array([t.request.gpus * t.request.gpu_milli for t in draws.waiting], dtype=np.int64)
    before = draws.running_seconds.shape[1]
    starts = draws.answer.start
    ends = starts + draws.waiting_seconds
    moments = np.concatenate((draws.running_seconds.ravel(), starts.ravel(), ends.ravel()))
    moments = np.unique(moments[(moments > 0) & (moments <= horizon)])
    if len(moments) >= USE_POINTS:
        moments = moments[np.linspace(0, len(moments) - 1, USE_POINTS - 1).astype(np.int64)]
    moments = np.unique(np.concatenate((np.zeros(1), moments)))
    used = np.zeros((len(starts), len(moments)), dtype=np.int64)
    for j in range(len(starts)):
        began = np.isfinite(starts[j])
        amount = draws.answer.replicas[j] * of_one
        used[j] = (
            int(weight[:before].sum())
            - _sum_until(draws.running_seconds[j], weight[:before], moments)
            + _sum_until(starts[j][began], amount[began], moments)
            - _sum_until(ends[j][began], amount[began], moments)
        )
    median = np.quantile(used, 0.5, axis=0, method="lower")
    return tuple(
        Use(seconds=float(moment), gpu_milli=int(milli))
        for moment, milli in zip(moments, median, strict=True)
    )


def _sum_until(
    at: Seconds, amount: npt.NDArray[np.int64], moments: Seconds
) -> npt.NDArray[np.int64]:
    """Of each moment the sum of the amounts at or before it."""
    order = np.argsort(at, kind="stable")
    total = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(amount[order])))
    return total[np.searchsorted(at[order], moments, side="right")]
