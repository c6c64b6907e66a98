"""The life of a task, as pure tables: what it is, what can happen to it, what it becomes.

pending --placed--> starting --started--> running --ended--> succeeded | failed
   ^                    |                    |
   '-----requeued-------+---- stopping <-----'  (a stop of what still runs, before the next step)

A task that is to leave for others (preempted, moved, drained) is stopped on the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.allocations.states import AllocationState
from protocol.desired import StopCause


class TaskState(StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in _FINAL_TASK


DISPLACED = frozenset({StopCause.PREEMPTED, StopCause.MOVED, StopCause.DRAINED})
"""Why an attempt is ended for the sake of others."""
_OWN_FAULT = frozenset({StopCause.UNHEALTHY, StopCause.OVERUSE})
_TAKEN_AWAY = DISPLACED | {StopCause.LEASE, StopCause.UNWANTED, StopCause.LEFT}

_FINAL_TASK = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED})
FINAL_TASK_STATES = tuple(state.value for state in TaskState if state in _FINAL_TASK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """What decides a task's next step: its state, its current replicas', and what it's owed."""

    state: TaskState
    replicas: Sequence[AllocationState]
    cancelled: bool
    failures: int
    restarts_max: int | None
    """None: no limit."""
    service: bool = False
    """It ends only when it's told to: one that ends by itself is started again."""
    causes: Sequence[StopCause] = ()
    """Why replicas were stopped, of those that were."""


class Step(StrEnum):
    """What the service does next with a task."""

    NOTHING = "nothing"
    GO = "go"
    """All replicas are ready: let them start."""
    RUN = "run"
    STOP_REST = "stop_rest"
    """One replica is gone for good: a gang lives or dies as one."""
    SUCCEED = "succeed"
    FAIL = "fail"
    RESTART = "restart"
    """It failed by itself and may try again: back to pending, one failure more, after a while."""
    REQUEUE = "requeue"
    """It was stopped or lost through no fault of its own: back to pending."""
    CANCEL = "cancel"


def next_step(gang: Gang) -> Step:
    """The one rule by which a task moves on. Total: every combination has an answer."""
    if gang.state.final or not gang.replicas:
        return Step.NOTHING
    live = [state for state in gang.replicas if not state.final]
    broken = [
        state for state in gang.replicas if state.final and state is not AllocationState.SUCCEEDED
    ]
    if live:
        if broken or gang.cancelled:
            return Step.NOTHING if gang.state is TaskState.STOPPING else Step.STOP_REST
        if gang.state is TaskState.STARTING:
            return _start_step(gang.replicas)
        return Step.NOTHING
    if not broken and not gang.service:
        return Step.SUCCEED
    if gang.cancelled:
        return Step.CANCEL
    # With a replica lost or taken away its peers fail too, for want of it: that is no failure of
    # the task.
    taken = AllocationState.LOST in broken or not _TAKEN_AWAY.isdisjoint(gang.causes)
    failed = (
        not broken or AllocationState.FAILED in broken or not _OWN_FAULT.isdisjoint(gang.causes)
    )
    if failed and not taken:
        spent = gang.restarts_max is not None and gang.failures >= gang.restarts_max
        return Step.FAIL if spent else Step.RESTART
    return Step.REQUEUE


def _start_step(replicas: Sequence[AllocationState]) -> Step:
    if all(state is AllocationState.READY for state in replicas):
        return Step.GO
    started = {AllocationState.RUNNING, AllocationState.STOPPING, AllocationState.SUCCEEDED}
    return Step.RUN if all(state in started for state in replicas) else Step.NOTHING


def back_off_seconds(first_seconds: float, failures: int, longest_seconds: float) -> float:
    """How long a task waits after its n-th failure in a row: each wait is twice the last."""
    doublings = min(max(failures, 1) - 1, 30)
    return min(first_seconds * 2**doublings, longest_seconds)
