"""A node's desired set: derived from its allocations, whole, at a revision."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Node, Task
from protocol.desired import (
    DesiredAllocation,
    DesiredSet,
    Gang,
    Launch,
    Phase,
    Stop,
    StopCause,
)
from protocol.task import TaskSpec


async def desired_set(session: AsyncSession, node: Node, *, now: datetime) -> DesiredSet:
    query = (
        select(Allocation)
        .where(Allocation.node_id == node.id, Allocation.state.in_(LIVE_STATES))
        .options(
            selectinload(Allocation.task)
            .selectinload(Task.allocations)
            .selectinload(Allocation.node)
        )
        .order_by(Allocation.id)
    )
    rows = (await session.scalars(query)).all()
    return DesiredSet(
        node=node.name,
        revision=node.revision,
        allocations=tuple(
            _desired(
                allocation, time_is_up=node.drain_until is not None and node.drain_until <= now
            )
            for allocation in rows
        ),
    )


def _desired(allocation: Allocation, *, time_is_up: bool) -> DesiredAllocation:
    task = allocation.task
    spec = TaskSpec.model_validate(task.spec, strict=False)
    return DesiredAllocation(
        id=allocation.id,
        task=task.id,
        task_name=task.name,
        generation=allocation.generation,
        phase=Phase(allocation.phase),
        # What may not be preempted was asked at the deadline only: it has the time of its spec.
        stop=_stop(allocation, task, kill=time_is_up and spec.preemptible),
        devices=tuple(allocation.devices),
        gpu_milli=spec.request.gpu_milli,
        cpu_milli=spec.request.cpu_milli,
        memory_mib=spec.request.memory_mib,
        gpu_memory_mib=spec.request.gpu_memory_mib,
        launch=Launch(
            argv=spec.argv,
            env=spec.env,
            working_dir=spec.working_dir,
            kind=spec.kind,
            grace_seconds=spec.grace_seconds,
            checkpoint=spec.checkpoint,
            on_lease_lost=spec.on_lease_lost,
            readiness=spec.readiness,
            health=spec.health,
            drain_seconds=spec.drain_seconds,
            pids_max=spec.pids_max,
            gpu_overuse=spec.gpu_overuse,
        ),
        gang=_gang(
            allocation, [a for a in task.allocations if a.generation == allocation.generation]
        ),
    )


def _stop(allocation: Allocation, task: Task, *, kill: bool) -> Stop | None:
    if allocation.phase != Phase.STOP:
        return None
    return Stop(cause=StopCause(task.stop_cause or StopCause.GANG), reason=task.reason, kill=kill)


def _gang(allocation: Allocation, gang: Sequence[Allocation]) -> Gang:
    master = min(gang, key=lambda member: member.rank)
    return Gang(
        rank=allocation.rank,
        size=len(gang),
        master_address=master.node.address,
        master_port=master.port,
    )
