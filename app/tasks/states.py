"""The life of a task, as pure tables: what it is, what can happen to it, what it becomes.

pending --placed--> starting --started--> running --ended--> succeeded | failed
   ^                    |                    |
   '-----requeued-------+---- stopping <-----'  (a stop of what still runs, before the next step)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.allocations.states import AllocationState


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
    """It failed by itself and may try again: back to pending, one failure more."""
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
    if not broken:
        return Step.SUCCEED
    if gang.cancelled:
        return Step.CANCEL
    if AllocationState.FAILED in broken and AllocationState.LOST not in broken:
        # With a lost replica its peers fail too, for want of it: that is no failure of the task.
        spent = gang.restarts_max is not None and gang.failures >= gang.restarts_max
        return Step.FAIL if spent else Step.RESTART
    return Step.REQUEUE


def _start_step(replicas: Sequence[AllocationState]) -> Step:
    if all(state is AllocationState.READY for state in replicas):
        return Step.GO
    started = {AllocationState.RUNNING, AllocationState.STOPPING, AllocationState.SUCCEEDED}
    return Step.RUN if all(state in started for state in replicas) else Step.NOTHING
