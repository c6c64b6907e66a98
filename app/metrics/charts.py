"""Series of a node, a device or a task, put together for a chart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.store import SampleStore
from app.db.samples.tables import Kind, series
from app.metrics import series as points_of
from app.metrics.rates import METRICS
from app.metrics.roster import KnownDevice
from app.metrics.stretches import Cut, cut
from app.settings import Settings

_POINTS_IN_ALL = 200_000
"""Of an answer: with very many series in it, each has fewer points."""

_SERIES_MAX = 2_000
"""Of an answer: the newest replicas of a task that was started again and again."""

Form = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``metrics``: none for all."""

    start_ms: int
    end_ms: int
    points: int
    metrics: Sequence[str]
    now_ms: int


class Charts:
    """Reads one telemetry store."""

    def __init__(self, store: SampleStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def node(
        self, name: str, known: Sequence[KnownDevice] | None, asked: Asked
    ) -> Form | None:
        """A host and its devices; None when nobody knows such a node.

        Args:
            known: What the node has now; None for a node that isn't there any more.
        """
        async with self._store.read() as session:
            found = await _find(session, series.c.node == name, Kind.HOST, Kind.DEVICE)
            if not found and known is None:
                return None
            host, cut_ = await self._columns(session, Kind.HOST, found, asked)
            devices, _ = await self._columns(session, Kind.DEVICE, found, asked)
        present = {device.uuid: device for device in known or ()}
        order = {device.uuid: place for place, device in enumerate(known or ())}
        of_devices = [row for row in found if row.kind == Kind.DEVICE and row.id in devices]
        return {
            **_head(asked, cut_),
            "node": name,
            "host": {"columns": next(iter(host.values()), {"time": []})},
            "devices": [
                {
                    "uuid": row.key,
                    "index": None if row.key not in present else present[row.key].index,
                    "model": row.model,
                    "simulated": None if row.key not in present else present[row.key].simulated,
                    "columns": devices[row.id],
                }
                for row in sorted(of_devices, key=lambda row: (order.get(row.key, 2**31), row.key))
            ],
        }

    async def device(self, uuid: str, asked: Asked) -> Form | None:
        """A device on each node that has spoken of it; None when none has."""
        async with self._store.read() as session:
            found = await _find(session, series.c.key == uuid, Kind.DEVICE)
            columns, cut_ = await self._columns(session, Kind.DEVICE, found, asked)
        if not found:
            return None
        return {
            **_head(asked, cut_),
            "uuid": uuid,
            "nodes": [
                {"node": row.node, "model": row.model, "columns": columns[row.id]}
                for row in found
                if row.id in columns
            ],
        }

    async def task(self, task: str, asked: Asked) -> Form | None:
        """All replicas of a task, by its id; None when none was ever measured."""
        async with self._store.read() as session:
            found = await _find(session, series.c.task == task, Kind.TASK)
            columns, cut_ = await self._columns(session, Kind.TASK, found, asked)
        if not found:
            return None
        return {
            **_head(asked, cut_),
            "task": task,
            "replicas": [
                {
                    "allocation": row.key,
                    "node": row.node,
                    "devices": row.devices,
                    "gpu_milli": row.gpu_milli,
                    "columns": columns[row.id],
                }
                for row in found
                if row.id in columns
            ],
        }

    async def empty(self, kind: Kind, asked: Asked) -> Form:
        """The head of an answer about something of which there is no row yet."""
        async with self._store.read() as session:
            _, cut_ = await self._columns(session, kind, (), asked)
        return _head(asked, cut_)

    async def _columns(
        self, session: AsyncSession, kind: Kind, found: Sequence[Row[Any]], asked: Asked
    ) -> tuple[dict[int, points_of.Columns], Cut]:
        ids = [row.id for row in found if row.kind == kind][-_SERIES_MAX:]
        settings = self._settings
        state = await points_of.state_of(session, kind, settings, asked.now_ms)
        points = max(1, min(asked.points, _POINTS_IN_ALL // max(len(found), 1)))
        cut_ = cut(asked.start_ms, asked.end_ms, points=points, state=state)
        metrics = [metric for metric in asked.metrics or METRICS[kind] if metric in METRICS[kind]]
        if not ids or not metrics:
            return {}, cut_
        return await points_of.read(session, kind, ids, cut_, metrics), cut_


async def _find(
    session: AsyncSession, where: ColumnElement[bool], *kinds: Kind
) -> Sequence[Row[Any]]:
    query = (
        select(series)
        .where(where, series.c.kind.in_([str(kind) for kind in kinds]))
        .order_by(series.c.key, series.c.node)
    )
    return (await session.execute(query)).all()


def _head(asked: Asked, cut_: Cut) -> Form:
    return {
        "start_ms": asked.start_ms,
        "end_ms": asked.end_ms,
        "resolution_seconds": cut_.width_ms / 1000,
    }
