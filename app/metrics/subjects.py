"""Of what a node may speak: itself, its devices, its allocations. Remembered, since every report of
measurements asks."""

from collections.abc import Collection

from sqlalchemy import select

from app.clock import Clock
from app.db.engine import Database
from app.db.samples.store import Subject
from app.db.samples.tables import Kind
from app.db.tables import Allocation, Device, Task

_ASK_AGAIN_SECONDS = 5.0
"""How long an answer "isn't this node's" is believed."""
_REMEMBERED_MAX = 100_000


class Subjects:
    """Asks the service's rows, at most now and then for what isn't there."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[tuple[int, Kind, str], Subject] = {}
        self._unknown: dict[tuple[int, Kind, str], float] = {}

    async def find(
        self, node_id: int, node: str, kind: Kind, keys: Collection[str]
    ) -> dict[str, Subject]:
        """Those of the keys that are this node's."""
        missing = [key for key in keys if self._should_ask(node_id, kind, key)]
        if missing:
            await self._ask(node_id, node, kind, missing)
        return {
            key: subject
            for key in keys
            if (subject := self._known.get((node_id, kind, key))) is not None
        }

    def _should_ask(self, node_id: int, kind: Kind, key: str) -> bool:
        of = (node_id, kind, key)
        if of in self._known:
            return False
        asked = self._unknown.get(of)
        return asked is None or self._clock.monotonic() - asked > _ASK_AGAIN_SECONDS

    async def _ask(self, node_id: int, node: str, kind: Kind, keys: list[str]) -> None:
        if len(self._known) + len(self._unknown) > _REMEMBERED_MAX:
            self._known.clear()
            self._unknown.clear()
        match kind:
            case Kind.HOST:
                found = [Subject(kind=kind, key=node, node=node)]
            case Kind.DEVICE:
                found = await self._devices(node_id, node, keys)
            case Kind.TASK:
                found = await self._allocations(node_id, node, keys)
        for subject in found:
            self._known[node_id, kind, subject.key] = subject
        now = self._clock.monotonic()
        for key in keys:
            if (node_id, kind, key) not in self._known:
                self._unknown[node_id, kind, key] = now

    async def _devices(self, node_id: int, node: str, keys: list[str]) -> list[Subject]:
        async with self._database.read() as session:
            rows = await session.execute(
                select(Device.uuid, Device.model).where(
                    Device.node_id == node_id, Device.uuid.in_(keys)
                )
            )
            return [
                Subject(kind=Kind.DEVICE, key=row.uuid, node=node, model=row.model) for row in rows
            ]

    async def _allocations(self, node_id: int, node: str, keys: list[str]) -> list[Subject]:
        async with self._database.read() as session:
            rows = await session.execute(
                select(Allocation.id, Allocation.devices, Task.id, Task.queue, Task.spec)
                .join(Task, Allocation.task_id == Task.id)
                .where(Allocation.node_id == node_id, Allocation.id.in_(keys))
            )
            return [
                Subject(
                    kind=Kind.TASK,
                    key=allocation,
                    node=node,
                    queue=queue,
                    task=task,
                    devices=len(devices),
                    gpu_milli=spec["request"]["gpu_milli"] if devices else 0,
                )
                for allocation, devices, task, queue, spec in rows
            ]
