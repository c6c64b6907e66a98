"""The life of an allocation, as its agent reports it and as the service settles it."""

from enum import StrEnum


class AllocationState(StrEnum):
    """What is known of one replica. It holds its devices until its state is final."""

    ASSIGNED = "assigned"
    """Committed; its agent hasn't spoken of it yet."""
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Ended by our order, or by its node's own fence."""
    LOST = "lost"
    """Its node's lease ran out, or nobody could see how it ended."""

    @property
    def final(self) -> bool:
        return self in _FINAL_ALLOCATION

    @property
    def rank(self) -> int:
        """Reports may arrive late: a state never goes back to one of a lower rank."""
        return _ALLOCATION_RANK[self]


_FINAL_ALLOCATION = frozenset(
    {
        AllocationState.SUCCEEDED,
        AllocationState.FAILED,
        AllocationState.STOPPED,
        AllocationState.LOST,
    }
)
_ALLOCATION_RANK = {
    AllocationState.ASSIGNED: 0,
    AllocationState.READY: 1,
    AllocationState.RUNNING: 2,
    AllocationState.STOPPING: 3,
    AllocationState.SUCCEEDED: 4,
    AllocationState.FAILED: 4,
    AllocationState.STOPPED: 4,
    AllocationState.LOST: 4,
}

LIVE_STATES = tuple(state.value for state in AllocationState if state not in _FINAL_ALLOCATION)
