"""Rows to a placement problem: one immutable look at the cluster."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.db.tables import Allocation, Node, Task
from app.nodes.states import NodeState
from app.quarantine import service as quarantines
from app.quarantine.service import DeviceKey
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.task import TaskSpec
from solver.problem import Budget, Device, Problem, Queue, Request, Slot
from solver.problem import Node as ProblemNode
from solver.problem import Task as ProblemTask


class Snapshot:
    """What planning knows at one moment, and the problem that it poses."""

    def __init__(
        self,
        nodes: Sequence[Node],
        unfinished: Sequence[Task],
        budget: Budget,
        quarantined: frozenset[DeviceKey] = frozenset(),
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.pending = {task.id: task for task in unfinished if _waits(task)}
        names = {node.id: node.name for node in nodes}
        planned = [task for task in unfinished if tasks.live(task) or task.id in self.pending]
        known = {task.id for task in planned}
        self.problem = Problem(
            version=1,
            nodes=tuple(_node(node, quarantined) for node in nodes),
            tasks=tuple(_task(task, known, names) for task in planned),
            queues=tuple(Queue(id=queue) for queue in sorted({task.queue for task in planned})),
            budget=budget,
        )


async def take(session: AsyncSession, budget: Budget) -> Snapshot:
    nodes = (
        await session.scalars(select(Node).options(selectinload(Node.devices)).order_by(Node.name))
    ).all()
    unfinished = await tasks.unfinished(session)
    return Snapshot(nodes, unfinished, budget, await quarantines.keys(session))


def _waits(task: Task) -> bool:
    """A new attempt waits until everything that the last one held is free again."""
    return task.state == TaskState.PENDING and not task.cancelled and not tasks.live(task)


def _node(node: Node, quarantined: frozenset[DeviceKey]) -> ProblemNode:
    uuids = {device.uuid for device in node.devices}
    return ProblemNode(
        id=node.name,
        cpu_milli=node.cpu_milli,
        memory_mib=node.memory_mib,
        disk_mib=node.disk_mib,
        network_mbps=node.network_mbps,
        schedulable=node.schedulable and node.state == NodeState.READY,
        labels=node.labels,
        domains={domain: value for domain, value in node.domains.items() if domain != "node"},
        devices=tuple(
            Device(
                id=device.uuid,
                model=device.model,
                memory_mib=device.memory_mib,
                numa=device.numa,
                healthy=device.healthy and (node.id, device.uuid) not in quarantined,
                links={peer: kind for peer, kind in device.links.items() if peer in uuids},
            )
            for device in node.devices
        ),
    )


def _task(task: Task, known: set[str], names: dict[int, str]) -> ProblemTask:
    spec = TaskSpec.model_validate(task.spec, strict=False)
    separate_from = tuple(other for other in spec.separate_from if other in known)
    request = Request(**spec.request.model_dump())
    held = tasks.live(task)
    if held:
        # What runs is a fact, not a wish: its remaining replicas, where they are, with no topology
        # to
        # fulfil again (a gang whose ranks end one by one would otherwise break its own spread).
        return ProblemTask(
            id=task.id,
            queue=task.queue,
            priority=task.priority,
            replicas=len(held),
            request=request,
            separate_from=separate_from,
            preemptible=spec.preemptible,
            placed=tuple(_slots(held, names)),
        )
    return ProblemTask(
        id=task.id,
        queue=task.queue,
        priority=task.priority,
        replicas=spec.replicas,
        min_replicas=spec.min_replicas,
        request=request,
        gpu_models=spec.gpu_models,
        node_selector=spec.node_selector,
        pack_within=spec.pack_within,
        spread_over=spec.spread_over,
        separate_from=separate_from,
        preemptible=spec.preemptible,
        duration_seconds=spec.duration_seconds,
    )


def _slots(held: Iterable[Allocation], names: dict[int, str]) -> Iterable[Slot]:
    for allocation in held:
        yield Slot(node=names[allocation.node_id], devices=tuple(allocation.devices))
