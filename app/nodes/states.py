"""The life of a node, decided by how long it has been silent."""

from dataclasses import dataclass
from enum import StrEnum


class NodeState(StrEnum):
    READY = "ready"
    UNREACHABLE = "unreachable"
    """Silent, but its lease still runs: its tasks are its own, it gets no new ones."""
    LOST = "lost"
    """Its lease has run out, so it has stopped its tasks: they may be placed elsewhere."""


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
