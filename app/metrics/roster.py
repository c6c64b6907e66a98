"""Who is measured: nodes with their devices, replicas with their tasks. Read again when it has
changed: a look at 16,000 devices is too dear for every request."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Allocation, Device, Node, Task

_ASKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    uuid: str
    index: int
    model: str
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReplica:
    """``task`` and ``allocation`` are ids, ``name`` is the task's."""

    allocation: str
    task: str
    name: str
    queue: str
    replica: int


class Roster:
    """As of the last :meth:`refresh`."""

    def __init__(self) -> None:
        self.devices: dict[str, list[KnownDevice]] = {}
        """By node; nodes in the order of their names, devices in that of their indices."""
        self.version = 0
        """Grows when nodes or devices have changed."""
        self._seen: tuple[int | None, ...] | None = None
        self._replicas: dict[str, KnownReplica] = {}

    async def refresh(self, session: AsyncSession) -> None:
        """Look whether nodes or devices have come or gone; if so, read them."""
        marks = (
            func.count(Node.id),
            func.max(Node.id),
            select(func.count(Device.id)).scalar_subquery(),
            select(func.max(Device.id)).scalar_subquery(),
            select(func.sum(Device.index)).scalar_subquery(),
        )
        seen = tuple((await session.execute(select(*marks))).one())
        if seen == self._seen:
            return
        named = select(Node.id, Node.name).order_by(Node.name)
        names = {row.id: row.name for row in await session.execute(named)}
        devices: dict[str, list[KnownDevice]] = {name: [] for name in names.values()}
        query = select(
            Device.node_id, Device.uuid, Device.index, Device.model, Device.simulated
        ).order_by(Device.index)
        for node_id, uuid, index, model, simulated in await session.execute(query):
            devices[names[node_id]].append(
                KnownDevice(uuid=uuid, index=index, model=model, simulated=simulated)
            )
        self.devices, self._seen = devices, seen
        self.version += 1

    async def replicas(
        self, session: AsyncSession, allocations: Collection[str]
    ) -> dict[str, KnownReplica]:
        """Whose these allocations are. Those that nobody knows any more are left out."""
        missing = [id_ for id_ in allocations if id_ not in self._replicas]
        if len(self._replicas) > 2 * len(allocations) + 1_000:
            self._replicas = {
                id_: self._replicas[id_] for id_ in allocations if id_ in self._replicas
            }
        for start in range(0, len(missing), _ASKED_AT_ONCE):
            query = (
                select(Allocation.id, Task.id, Task.name, Task.queue, Allocation.replica)
                .join(Task, Allocation.task_id == Task.id)
                .where(Allocation.id.in_(missing[start : start + _ASKED_AT_ONCE]))
            )
            for allocation, task, name, queue, replica in await session.execute(query):
                self._replicas[allocation] = KnownReplica(
                    allocation=allocation, task=task, name=name, queue=queue, replica=replica
                )
        return self._replicas
