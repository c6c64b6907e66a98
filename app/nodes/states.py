"""The life of a node, decided by how long it has been silent."""

from dataclasses import dataclass
from enum import StrEnum


class NodeState(StrEnum):
    READY = "ready"
    UNREACHABLE = "unreachable"
    """Silent, but its lease still runs: its tasks are its own, it gets no new ones."""
    LOST = "lost"
    """Its lease has run out, so it has stopped its tasks: they may be placed elsewhere. Those that
    are to be kept are its own still: it may run them out of our sight."""


KILL_SECONDS = 5.0
"""What an agent may need beyond a task's own time to kill everything that it has started."""
DRIFT = 1.01
"""Clocks that count the same lease may run one percent apart."""


def fenced_after_seconds(
    *, lease_seconds: float, stop_seconds: float, margin_seconds: float
) -> float:
    """The silence after which a node must have ended a task by itself, that takes so long to
    stop."""
    return (lease_seconds + stop_seconds) * DRIFT + KILL_SECONDS + margin_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long silence means nothing, and when it means that the node has fenced itself."""

    unreachable_after_seconds: float
    lost_after_seconds: float


def state_after(silence_seconds: float, patience: Patience) -> NodeState:
    if silence_seconds >= patience.lost_after_seconds:
        return NodeState.LOST
    if silence_seconds >= patience.unreachable_after_seconds:
        return NodeState.UNREACHABLE
    return NodeState.READY
