"""What is wrong with a submission beyond its form: it names what isn't there, or asks for more than
there is."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.db.tables import Node, Queue, Task
from app.deps import Context
from app.errors import Fault
from protocol.task import TaskSpec

_QUEUES_NAMED_MAX = 20


async def admission_faults(ctx: Context, session: AsyncSession, spec: TaskSpec) -> list[Fault]:
    """All of them at once."""
    return [
        *([] if ctx.settings.open_queues else await _unknown_queue(session, spec)),
        *await _unknown_tasks(session, spec),
        *await _larger_than_cluster(session, spec),
    ]


async def _unknown_queue(session: AsyncSession, spec: TaskSpec) -> list[Fault]:
    names = sorted(await session.scalars(select(Queue.name)))
    if spec.queue in names:
        return []
    more = len(names) - _QUEUES_NAMED_MAX
    shown = ", ".join(names[:_QUEUES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
    reason = f"no queue has this name; there are {shown}" if names else "there is no queue yet"
    return [Fault(path="queue", value=spec.queue, reason=reason)]


async def _unknown_tasks(session: AsyncSession, spec: TaskSpec) -> list[Fault]:
    if not spec.separate_from:
        return []
    known = set(await session.scalars(select(Task.id).where(Task.id.in_(spec.separate_from))))
    return [
        Fault(path=f"separate_from[{index}]", value=task, reason="no task has this id")
        for index, task in enumerate(spec.separate_from)
        if task not in known
    ]


async def _larger_than_cluster(session: AsyncSession, spec: TaskSpec) -> list[Fault]:
    """A gang that all nodes together couldn't hold, were they empty, is a mistake: say so at once.

    A single replica that fits nowhere is not refused: it waits, and `why` tells what would place
    it. Before
    the first node has joined nothing is known of the cluster, and nothing is refused.
    """
    needed = spec.min_replicas or spec.replicas
    if needed == 1:
        return []
    nodes = (await session.scalars(select(Node).options(selectinload(Node.devices)))).all()
    if not nodes:
        return []
    request = spec.request
    devices = [
        device
        for node in nodes
        for device in node.devices
        if not spec.gpu_models or device.model in spec.gpu_models
    ]
    dimensions: Sequence[tuple[str, int, int]] = (
        ("GPU milli", request.gpus * request.gpu_milli, 1000 * len(devices)),
        ("CPU milli", request.cpu_milli, sum(node.cpu_milli for node in nodes)),
        ("MiB of memory", request.memory_mib, sum(node.memory_mib for node in nodes)),
        ("MiB of disk", request.disk_mib, sum(node.disk_mib for node in nodes)),
        ("Mbit/s of network", request.network_mbps, sum(node.network_mbps for node in nodes)),
    )
    which = f" of model {' or '.join(spec.gpu_models)}" if spec.gpu_models else ""
    return [
        Fault(
            path="min_replicas" if spec.min_replicas is not None else "replicas",
            value=needed,
            reason=(
                f"the gang needs {needed} x {each} = {needed * each} {unit}"
                f"{which if unit == 'GPU milli' else ''}; "
                f"the whole cluster of {len(nodes)} node(s) has {total}"
            ),
        )
        for unit, each, total in dimensions
        if needed * each > total
    ]
