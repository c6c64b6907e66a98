"""The rows that a look is about. By columns, not as objects: a fleet has many."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Executable, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.allocations.states import LIVE_STATES
from app.clock import milliseconds
from app.db.tables import Node
from app.quarantine import service as quarantines
from app.quarantine.rules import Code
from app.quarantine.service import DeviceKey, Place
from app.turns import in_turns
from app.watch.devices import Watched
from app.watch.tasks import Replica


@dataclass(slots=True, kw_only=True)
class HoldingNode:
    id: int
    name: str
    state: str
    in_maintenance: bool = False
    real_devices: dict[str, int] = field(default_factory=dict)
    """UUID -> index; simulated ones have nothing to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An allocation that isn't over."""

    task: str
    name: str
    """The task's."""
    node_id: int
    devices: Sequence[str]
    assigned_ms: int


@dataclass(slots=True, kw_only=True)
class World:
    nodes: dict[int, HoldingNode] = field(default_factory=dict)
    """By row id."""
    held: list[Held] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    gangs: dict[str, set[DeviceKey]] = field(default_factory=lambda: defaultdict(set))
    """The devices of each task."""
    replicas: dict[str, list[Replica]] = field(default_factory=lambda: defaultdict(list))
    """By task, those that hold devices."""


_NODES, _TASKS = Node.metadata.tables["nodes"], Node.metadata.tables["tasks"]
_DEVICES, _ALLOCATIONS = Node.metadata.tables["devices"], Node.metadata.tables["allocations"]


_NODE_ROWS = select(_NODES.c.id, _NODES.c.name, _NODES.c.state, _NODES.c.maintenance_since)


async def world_now(session: AsyncSession) -> World:
    """Read in parts, so that nobody waits for a whole fleet."""
    world = World()
    async for row in _rows(session, _NODE_ROWS):
        world.nodes[row.id] = HoldingNode(
            id=row.id,
            name=row.name,
            state=row.state,
            in_maintenance=row.maintenance_since is not None,
        )
    await _read_held(session, world)
    await _read_devices(session, world)
    return world


async def _rows(session: AsyncSession, query: Executable) -> AsyncIterator[Any]:
    """Of tables, not of classes: their values are made row by row, not all at once."""
    async for row in in_turns(await session.execute(query)):
        yield row


async def _read_held(session: AsyncSession, world: World) -> None:
    live = _ALLOCATIONS.c.state.in_(LIVE_STATES)
    tasks = {}
    query = select(_TASKS.c.id, _TASKS.c.name, _TASKS.c.spec).where(
        _TASKS.c.id.in_(select(_ALLOCATIONS.c.task_id).where(live))
    )
    async for row in _rows(session, query):
        tasks[row.id] = row.name, row.spec["request"]["gpu_milli"]
    async for row in _rows(
        session,
        select(
            _ALLOCATIONS.c.id,
            _ALLOCATIONS.c.task_id,
            _ALLOCATIONS.c.node_id,
            _ALLOCATIONS.c.devices,
            _ALLOCATIONS.c.assigned_at,
        )
        .where(live)
        .order_by(_ALLOCATIONS.c.id),
    ):
        name, gpu_milli = tasks[row.task_id]
        world.held.append(
            Held(
                task=row.task_id,
                name=name,
                node_id=row.node_id,
                devices=row.devices,
                assigned_ms=milliseconds(row.assigned_at),
            )
        )
        if row.devices:
            world.gangs[row.task_id] |= {(row.node_id, uuid) for uuid in row.devices}
            world.replicas[row.task_id].append(
                Replica(
                    allocation=row.id,
                    node=world.nodes[row.node_id].name,
                    gpus=len(row.devices) * gpu_milli / 1000,
                )
            )


async def _read_devices(session: AsyncSession, world: World) -> None:
    in_force = await quarantines.active(session)
    released: dict[DeviceKey, dict[Code, int]] = defaultdict(dict)
    for (node_id, uuid, code), at in (await quarantines.last_releases(session)).items():
        released[node_id, uuid][code] = milliseconds(at)
    names = ("node_id", "uuid", "index", "model", "simulated")
    query = select(*(_DEVICES.c[name] for name in names))
    async for node_id, uuid, index, model, simulated in _rows(session, query):
        key, node = (node_id, uuid), world.nodes[node_id]
        since = {one.code: milliseconds(one.since) for one in in_force.get(key, ())}
        if not simulated:
            node.real_devices[uuid] = index
        world.watched.append(
            Watched(
                place=Place(node_id=node_id, node=node.name, uuid=uuid, index=index),
                model=model,
                codes=frozenset(map(Code, since)),
                released_ms=released.get(key, {}),
                unreleased_ms=since.get(Code.UNRELEASED),
            )
        )
