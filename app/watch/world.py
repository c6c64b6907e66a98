"""The rows that a look is about. By columns, not as objects: a fleet has many."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import LIVE_STATES
from app.db.tables import Allocation, Device, Node, Task
from app.quarantine import service as quarantines
from app.quarantine.rules import Code
from app.quarantine.service import DeviceKey, Place
from app.watch.devices import Watched
from app.watch.tasks import Replica


@dataclass(slots=True, kw_only=True)
class HoldingNode:
    id: int
    name: str
    state: str
    real_devices: dict[str, int] = field(default_factory=dict)
    """UUID -> index; simulated ones have nothing to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An allocation that isn't over."""

    id: str
    task: str
    name: str
    """The task's."""
    node_id: int
    devices: Sequence[str]
    gpu_milli: int
    assigned_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    nodes: Collection[HoldingNode]
    held: Collection[Held]
    watched: Collection[Watched]

    @property
    def gangs(self) -> Collection[Collection[DeviceKey]]:
        """The devices of each task."""
        found: dict[str, set[DeviceKey]] = defaultdict(set)
        for allocation in self.held:
            found[allocation.task] |= {(allocation.node_id, u) for u in allocation.devices}
        return found.values()

    @property
    def replicas(self) -> Mapping[str, Sequence[Replica]]:
        """By task, those that hold devices."""
        names = {node.id: node.name for node in self.nodes}
        found: dict[str, list[Replica]] = defaultdict(list)
        for allocation in self.held:
            if allocation.devices:
                replica = Replica(
                    allocation=allocation.id,
                    node=names[allocation.node_id],
                    gpus=len(allocation.devices) * allocation.gpu_milli / 1000,
                )
                found[allocation.task].append(replica)
        return found


async def world_now(session: AsyncSession) -> World:
    nodes = {
        row.id: HoldingNode(id=row.id, name=row.name, state=row.state)
        for row in await session.execute(select(Node.id, Node.name, Node.state))
    }
    return World(
        nodes=nodes.values(),
        held=await _held(session),
        watched=await _watched(session, nodes),
    )


async def _held(session: AsyncSession) -> list[Held]:
    rows = await session.execute(
        select(
            Allocation.id,
            Allocation.task_id,
            Allocation.node_id,
            Allocation.devices,
            Allocation.assigned_at,
            Task.name,
            Task.spec,
        )
        .join(Task, Task.id == Allocation.task_id)
        .where(Allocation.state.in_(LIVE_STATES))
        .order_by(Allocation.id)
    )
    return [
        Held(
            id=row.id,
            task=row.task_id,
            name=row.name,
            node_id=row.node_id,
            devices=row.devices,
            gpu_milli=row.spec["request"]["gpu_milli"],
            assigned_ms=milliseconds(row.assigned_at),
        )
        for row in rows
    ]


async def _watched(session: AsyncSession, nodes: Mapping[int, HoldingNode]) -> list[Watched]:
    in_force = await quarantines.active(session)
    released: dict[DeviceKey, dict[Code, int]] = defaultdict(dict)
    for (node_id, uuid, code), at in (await quarantines.last_releases(session)).items():
        released[node_id, uuid][code] = milliseconds(at)
    watched = []
    for node_id, uuid, index, model, simulated in await session.execute(
        select(Device.node_id, Device.uuid, Device.index, Device.model, Device.simulated)
    ):
        key, node = (node_id, uuid), nodes[node_id]
        if not simulated:
            node.real_devices[uuid] = index
        watched.append(
            Watched(
                place=Place(node_id=node_id, node=node.name, uuid=uuid, index=index),
                model=model,
                codes=frozenset(Code(one.code) for one in in_force.get(key, ())),
                released_ms=released.get(key, {}),
            )
        )
    return watched


def milliseconds(moment: datetime) -> int:
    """Since 1970, as rows of measurements have it."""
    return round(moment.timestamp() * 1000)
