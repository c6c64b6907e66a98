"""What it costs to stop a running task: the work that is lost, and what stopping and starting again
take.

In GPU-seconds (docs/model.md, O2). Progress that nobody told of is never taken for a checkpoint.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.clock import milliseconds
from app.db.tables import Allocation
from app.progress import ProgressBoard
from protocol.report import Progress
from protocol.task import Kind, Request, TaskSpec

RESTART_SECONDS = 30.0
"""From the order to stop until the program works again somewhere else, beside what saving takes:
being placed, started, and having loaded what it had saved."""
CPU_PART = 0.01
"""What a CPU core counts for, in GPUs, where a replica has none."""
COST_MAX = 2**40
_SKEW_SECONDS = 60.0
"""A node's clock may be ahead of ours by so much; a checkpoint later than that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is known of the work of a task that runs."""

    gpus: float
    """Of all its replicas together."""
    running_seconds: float
    saved_seconds_ago: float | None
    """None: it never said that it has saved anything in this attempt."""
    saving_seconds: float | None
    """Of one that saves when it's asked: how long that takes it. None: it isn't asked."""
    is_service: bool
    """It has no work to lose, only time in which it answers nobody."""

    @property
    def is_lost_whole(self) -> bool:
        """Whether all that it has done so far would have to be done again."""
        return not self.is_service and self.saving_seconds is None and not self._saved

    @property
    def _saved(self) -> bool:
        return self.saved_seconds_ago is not None

    @property
    def lost_seconds(self) -> float:
        """Of work that would have to be done again, or are spent on saving it."""
        if self.is_service:
            return 0.0
        if self.saving_seconds is not None:
            return self.saving_seconds
        if self.saved_seconds_ago is not None:
            return min(self.saved_seconds_ago, self.running_seconds)
        return self.running_seconds


def stop_cost(work: Work) -> int:
    """GPU-seconds, at least 1."""
    cost = math.ceil((work.lost_seconds + RESTART_SECONDS) * work.gpus)
    return min(max(cost, 1), COST_MAX)


def gpus_of(request: Request) -> float:
    """What one replica counts for: its devices or its part of one, or else its cores."""
    if request.gpus:
        return request.gpus * request.gpu_milli / 1000
    return max(request.cpu_milli / 1000, 1.0) * CPU_PART


def work_of(
    spec: TaskSpec,
    started_at: datetime | None,
    held: Sequence[Allocation],
    progress: ProgressBoard,
    now: datetime,
) -> Work:
    """What is known of a task's replicas ``held``, from what their programs have said."""
    running_seconds = 0.0 if started_at is None else max((now - started_at).total_seconds(), 0.0)
    said = [one for a in held if (one := progress.of(a.id, a.generation)) is not None]
    return Work(
        gpus=gpus_of(spec.request) * len(held),
        running_seconds=running_seconds,
        saved_seconds_ago=_saved_seconds_ago(said, now),
        saving_seconds=_saving_seconds(spec, said),
        is_service=spec.kind is Kind.SERVICE,
    )


def _saved_seconds_ago(said: Sequence[Progress], now: datetime) -> float | None:
    """Since the oldest of the replicas' newest checkpoints: parts of one belong together."""
    ages = [
        (milliseconds(now) - one.checkpoint_at_ms) / 1000
        for one in said
        if one.checkpoint_at_ms is not None
    ]
    if not ages or min(ages) < -_SKEW_SECONDS:
        return None
    return max(*ages, 0.0)


def _saving_seconds(spec: TaskSpec, said: Sequence[Progress]) -> float | None:
    """As measured by the program, or else the longest that it may take."""
    if spec.checkpoint is None:
        return None
    measured = [one.checkpoint_seconds for one in said if one.checkpoint_seconds is not None]
    return max(measured, default=spec.grace_seconds)
