"""What queues hold and wait for now, from the rows of tasks and allocations."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Device, Node, Task
from app.nodes.states import NodeState
from app.queues.rules import DIMENSIONS, OF_MODEL
from app.tasks.states import FINAL_TASK_STATES, TaskState

_LIVE_TASK_STATES = [state.value for state in TaskState if state not in FINAL_TASK_STATES]


@dataclass(slots=True, kw_only=True)
class Holding:
    """Of a queue's own tasks."""

    in_use: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 0))
    tasks: dict[str, int] = field(default_factory=lambda: {"running": 0, "pending": 0})


async def look(session: AsyncSession) -> Mapping[str, Holding]:
    """By queue. Every queue is there that an unfinished task names."""
    found: dict[str, Holding] = defaultdict(Holding)
    counted = (
        select(Task.queue, Task.state, func.count())
        .where(Task.state.in_(_LIVE_TASK_STATES))
        .group_by(Task.queue, Task.state)
    )
    for queue, state, count in await session.execute(counted):
        word = "pending" if state == TaskState.PENDING else "running"
        found[queue].tasks[word] += count
    models = {
        (row.node_id, row.uuid): row.model
        for row in await session.execute(select(Device.node_id, Device.uuid, Device.model))
    }
    held = (
        select(
            Task.queue,
            Task.spec["request"].label("request"),
            Allocation.node_id,
            Allocation.devices,
        )
        .join(Task, Task.id == Allocation.task_id)
        .where(Allocation.state.in_(LIVE_STATES))
    )
    for row in await session.execute(held):
        in_use, request = found[row.queue].in_use, row.request
        for dimension in ("cpu_milli", "memory_mib", "disk_mib", "network_mbps"):
            in_use[dimension] += request[dimension]
        in_use["gpus"] += len(row.devices)
        in_use["gpu_milli"] += len(row.devices) * request["gpu_milli"]
        in_use["gpu_memory_mib"] += len(row.devices) * request["gpu_memory_mib"]
        for uuid in row.devices:
            model = f"{OF_MODEL}{models.get((row.node_id, uuid), 'unknown')}"
            in_use[model] = in_use.get(model, 0) + request["gpu_milli"]
    return found


async def capacity(session: AsyncSession) -> Mapping[str, int]:
    """What the nodes have that aren't lost, by dimension. Empty before the first has joined."""
    columns = ("cpu_milli", "memory_mib", "disk_mib", "network_mbps")
    there = Node.state != NodeState.LOST
    sums = select(func.count(Node.id), *(func.sum(getattr(Node, name)) for name in columns))
    nodes, *totals = (await session.execute(sums.where(there))).one()
    if not nodes:
        return {}
    found = {name: int(total) for name, total in zip(columns, totals, strict=True)}
    devices = (
        select(Device.model, func.count(), func.sum(Device.memory_mib))
        .join(Node, Node.id == Device.node_id)
        .where(there)
        .group_by(Device.model)
    )
    found |= {"gpus": 0, "gpu_milli": 0, "gpu_memory_mib": 0}
    for model, count, memory_mib in await session.execute(devices):
        found["gpus"] += count
        found["gpu_milli"] += 1000 * count
        found["gpu_memory_mib"] += int(memory_mib)
        found[f"{OF_MODEL}{model}"] = 1000 * count
    return found
