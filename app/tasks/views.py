"""Rows to what the API says of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.allocations.service import running_seconds
from app.allocations.states import AllocationState
from app.clock import moment
from app.db.tables import Allocation, Plan, Task
from app.findings import Finding
from app.nodes.states import NodeState
from app.progress import ProgressBoard
from app.tasks.schemas import (
    AllocationView,
    DeviceRef,
    Fix,
    IdleView,
    PlanRef,
    ProgressView,
    Reason,
    ReservedSlot,
    TaskView,
    Why,
)
from app.tasks.service import current, first_failed
from app.tasks.states import TaskState
from protocol.task import TaskSpec

UNKNOWN = "unknown"
"""In place of a replica's state where its node is lost: it was last seen in that state."""
_KEPT = "it is kept: runs on unless its machine is gone (node {node} is lost)"
FIXES_IN_WORDS = 3
"""The paragraph names the cheapest; all of them stand beside it."""


def task_view(
    task: Task,
    now: datetime,
    found: Finding | None = None,
    board: ProgressBoard | None = None,
    *,
    brief: bool = False,
) -> TaskView:
    """``found``: what is known of its idleness; ``board``: of its progress. ``brief``: one of many,
    without the long text of failures."""
    replicas = current(task)
    failed = None if brief else first_failed(replicas)
    seen = [allocation_view(replica, progress(replica, now, board)) for replica in replicas]
    if brief:
        seen = [view.model_copy(update={"error": ""}) for view in seen]
    return TaskView(
        id=task.id,
        name=task.name,
        kind=task.kind,
        queue=task.queue,
        priority=task.priority,
        state=task.state,
        reason=task.reason,
        generation=task.generation,
        failures=task.failures,
        preemptions=task.preemptions,
        stop_cause=task.stop_cause,
        reserved=[ReservedSlot(**slot) for slot in task.reserved or ()],
        not_before=task.not_before,
        submitted_at=task.submitted_at,
        started_at=task.started_at,
        finished_at=task.finished_at,
        running_seconds=running_seconds(replicas, now),
        allocations=seen,
        error=failed.error if failed is not None else "",
        progress=_of_gang(sorted(seen, key=lambda view: view.rank)),
        idle=_idle(found),
        plan=task.plan_id,
        spec=TaskSpec.model_validate(task.spec, strict=False),
    )


def _idle(found: Finding | None) -> IdleView | None:
    if found is None or found.since is None:
        return None
    return IdleView(
        kind=found.kind,
        since=found.since,
        gpu_hours=found.gpu_hours or 0.0,
        text=found.text,
    )


def progress(
    allocation: Allocation, now: datetime, board: ProgressBoard | None
) -> ProgressView | None:
    """What a replica that isn't over tells of itself."""
    if board is None or AllocationState(allocation.state).final:
        return None
    told = board.of(allocation.id, allocation.generation)
    if told is None:
        return None
    at = None if told.checkpoint_at_ms is None else moment(told.checkpoint_at_ms)
    return ProgressView(
        step=told.step,
        steps=told.steps,
        checkpoint_step=told.checkpoint_step,
        checkpoint_at=at,
        checkpoint_age_seconds=None if at is None else max((now - at).total_seconds(), 0.0),
        checkpoint_seconds=told.checkpoint_seconds,
    )


def _of_gang(replicas: Sequence[AllocationView]) -> ProgressView | None:
    told = [replica.progress for replica in replicas if replica.progress is not None]
    if not told:
        return None
    steps = [one for one in told if one.step is not None]
    first = steps[0] if steps else told[0]
    saved = [one for one in told if one.checkpoint_age_seconds is not None]
    last = min(saved, key=lambda one: one.checkpoint_age_seconds or 0.0, default=told[0])
    return last.model_copy(update={"step": first.step, "steps": first.steps})


def allocation_view(allocation: Allocation, progress: ProgressView | None = None) -> AllocationView:
    devices = {device.uuid: device for device in allocation.node.devices}
    unseen = allocation.node.state == NodeState.LOST and not AllocationState(allocation.state).final
    reachable = (
        not unseen
        and allocation.port is not None
        and allocation.state == AllocationState.RUNNING
        and allocation.ready is not False
    )
    return AllocationView(
        id=allocation.id,
        replica=allocation.replica,
        rank=allocation.rank,
        generation=allocation.generation,
        node=allocation.node.name,
        devices=[
            DeviceRef(
                uuid=uuid,
                index=devices[uuid].index if uuid in devices else None,
                model=devices[uuid].model if uuid in devices else None,
                simulated=uuid in devices and devices[uuid].simulated,
            )
            for uuid in allocation.devices
        ],
        phase=allocation.phase,
        state=UNKNOWN if unseen else allocation.state,
        port=allocation.port,
        endpoint=f"{allocation.node.address}:{allocation.port}" if reachable else None,
        ready=allocation.ready,
        note=allocation.note,
        pid=allocation.pid,
        exit_code=allocation.exit_code,
        exit_signal=allocation.exit_signal,
        stop_cause=allocation.stop_cause,
        checkpoint=allocation.checkpoint,
        error=allocation.error,
        reason=_KEPT.format(node=allocation.node.name) if unseen else allocation.reason,
        assigned_at=allocation.assigned_at,
        started_at=allocation.started_at,
        ended_at=allocation.ended_at,
        progress=progress,
    )


def why(task: Task, plan: Plan | None, now: datetime) -> Why:
    """Where a task is and why, in words and in codes."""
    waiting = task.waiting or {}
    reasons = [Reason(**_known(reason, Reason)) for reason in waiting.get("reasons", [])]
    fixes = [Fix(**_known(fix, Fix)) for fix in waiting.get("fixes", [])]
    replicas = [allocation_view(allocation) for allocation in current(task)]
    pending = task.state == TaskState.PENDING
    is_early = pending and task.not_before is not None and task.not_before > now
    words = _in_words(task, [] if pending else replicas, reasons, fixes, plan)
    return Why(
        task=task.id,
        name=task.name,
        state=task.state,
        text=_too_early(task) if is_early else words,
        reasons=reasons if pending else [],
        fixes=fixes if pending else [],
        allocations=[] if pending else replicas,
        plan=None
        if plan is None
        else PlanRef(
            id=plan.id, created_at=plan.created_at, status=plan.status, digest=plan.digest
        ),
    )


def _known(document: dict[str, Any], form: type[Reason] | type[Fix]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in form.model_fields}


def _too_early(task: Task) -> str:
    assert task.not_before is not None  # noqa: S101 - the caller looked
    return f"{task.name} is tried again at {task.not_before:%H:%M:%S} UTC ({task.reason})."


def _in_words(
    task: Task,
    replicas: list[AllocationView],
    reasons: list[Reason],
    fixes: list[Fix],
    plan: Plan | None,
) -> str:
    places = ", ".join(_place(replica) for replica in replicas)
    by_plan = f" (plan {plan.id}, {plan.status})" if plan is not None else ""
    kept = ", ".join(dict.fromkeys(slot["node"] for slot in task.reserved or ()))
    match TaskState(task.state):
        case TaskState.PENDING if reasons:
            text = f"{task.name} waits: " + "; ".join(reason.text for reason in reasons) + "."
            if fixes:
                first = [fix.text for fix in fixes[:FIXES_IN_WORDS]]
                text += " It would start: " + "; or ".join(first) + "."
            if kept:
                text += f" Room is kept for it on {kept}."
            return text + (f" It {task.reason}." if task.reason else "")
        case TaskState.PENDING:
            again = f" ({task.reason})" if task.reason else ""
            return f"{task.name} waits for the next round of planning{again}."
        case TaskState.STARTING:
            return f"{task.name} was placed on {places}{by_plan}; its agents are starting it."
        case TaskState.RUNNING:
            return f"{task.name} runs on {places}{by_plan}."
        case TaskState.STOPPING:
            then = f" Room is kept for it on {kept}." if kept else ""
            return f"{task.name} is being stopped on {places}: {task.reason}.{then}"
        case TaskState.SUCCEEDED:
            return f"{task.name} succeeded; it ran on {places}{by_plan}."
        case TaskState.FAILED:
            return f"{task.name} failed: {task.reason}. It ran on {places}{by_plan}."
        case TaskState.CANCELLED:
            ran = f" It ran on {places}." if places else ""
            return f"{task.name} was {task.reason or 'cancelled'}.{ran}"


def _place(replica: AllocationView) -> str:
    if not replica.devices:
        return f"{replica.node} (CPU){_unless_gone(replica)}"
    names = ", ".join(
        f"{'simulated ' if device.simulated else ''}GPU "
        f"{device.uuid if device.index is None else device.index}"
        for device in replica.devices
    )
    return f"{replica.node} ({names}){_unless_gone(replica)}"


def _unless_gone(replica: AllocationView) -> str:
    return f", where {replica.reason}" if replica.state == UNKNOWN else ""
