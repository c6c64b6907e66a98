"""How queues' shares are spoken of to the owners of tasks."""

from collections.abc import Sequence
from typing import Any

from app.db.tables import Task
from app.planning.policy import BOOKING_LABEL
from app.planning.snapshot import Snapshot
from solver.plan import Reason, ReasonCode
from solver.shares.bands import Band

OVER_SHARE = "over_share"
"""Beside the plan's own reasons for waiting: its queue has its share."""
HELD = "held"
"""And: room is held for a gang that starts later."""
_NAMES = {
    Band.GUARANTEED: "within what its queue is guaranteed",
    Band.ENTITLED: "within its queue's share",
    Band.HELD: "beyond its queue's share",
    Band.DUE: "beyond its queue's share, which has used little lately",
    Band.PUT_OFF: "put off for what its queue has used lately",
    Band.BORROWING: "beyond its queue's share",
}


def preempted(look: Snapshot, task: Task, rival: Task | None) -> str:
    """Why a running task gives way."""
    if rival is None:
        return "preempted"
    bands = look.ranking.bands
    mine, its = bands.get(task.id), bands.get(rival.id)
    if mine is not None and its is not None and mine < its and rival.queue != task.queue:
        return (
            f"preempted for {rival.name}: queue {rival.queue} takes back what is its own "
            f"({_NAMES[its]}; {task.name} is {_NAMES[mine]})"
        )
    return f"preempted for {rival.name} (priority {rival.priority} over {task.priority})"


def reason(look: Snapshot, task: Task, said: Reason) -> dict[str, Any]:
    """A plan's reason in terms of the priority and the band that its level stands for."""
    text = said.text
    if said.code is ReasonCode.LOWER_PRIORITY and task.id in look.ranking.bands:
        text = (
            "the room that it needs is held by tasks with a stronger claim than one "
            f"{_NAMES[look.ranking.bands[task.id]]} of priority {task.priority}"
        )
    if BOOKING_LABEL in text:
        text = _booked(look, task, said)
    return {"code": said.code.value, "text": text, "nodes": said.nodes}


def _booked(look: Snapshot, task: Task, said: Reason) -> str:
    """The selector is ours, for the sake of bookings, and beside it may be the user's."""
    policy, spec = look.moment.policy, look.specs[task.id]
    may_use = policy.may_use(task.queue, spec, look.moment.now)
    names = [booking.name for booking in policy.bookings if booking.name not in may_use]
    own = " or don't match its node_selector" if spec.selector else ""
    nodes = "1 node is" if said.nodes == 1 else f"{said.nodes} nodes are"
    return f"{nodes} booked ({', '.join(names)}) before it's sure to be gone{own}"


def share_reasons(look: Snapshot, task: Task) -> list[dict[str, Any]]:
    """Whether its queue's share has to do with a task's waiting."""
    band = look.ranking.bands.get(task.id)
    if band not in {Band.BORROWING, Band.PUT_OFF, Band.DUE}:
        return []
    if not any(node.schedulable for node in look.problem.nodes):
        return []  # there is nothing to share
    own = look.ranking.shares.now[task.queue].own
    request = look.specs[task.id].request
    its = f"{own.get('cpu_milli', 0) / 1000:g} cores"
    if request.gpus:
        its = f"{own.get('gpu_milli', 0) / 1000:.3g} GPUs"
    text = (
        f"queue {task.queue} is entitled to {its} now, and this would be more: it starts where "
        "others leave room idle"
    )
    if band is Band.PUT_OFF:
        text = (
            f"queue {task.queue} has used more than its part lately: others come first where room "
            "becomes free"
        )
    return [{"code": OVER_SHARE, "text": text, "nodes": 0}]


def hold_reasons(look: Snapshot, gangs: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """That room is held for gangs which start in so many seconds."""
    return [
        {
            "code": HELD,
            "text": f"room is held for {look.tasks[gang].name}, which is to start in about "
            f"{_roughly(seconds)}; what is sure to end before that may use it",
            "nodes": 0,
        }
        for gang, seconds in gangs
        if gang in look.tasks
    ]


def _roughly(seconds: float) -> str:
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {name}"
    return "a minute"


def limit_reasons(look: Snapshot, task: Task) -> list[dict[str, Any]]:
    """Whether its queue's limits keep models of GPU from it."""
    left = look.models.get(task.id)
    if left is None:
        return []
    text = f"queue {task.queue}, or one above it, is at its limit of {', '.join(left.full)}"
    return [{"code": ReasonCode.QUEUE_LIMIT.value, "text": text, "nodes": 0}]
