"""Measurements from the wire to rows: whose they are, when they were taken, what can't be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from app.clock import Clock, milliseconds
from app.db.samples.store import Row, SampleStore, Subject
from app.db.samples.tables import Kind
from app.deps import NodePrincipal, invalid
from app.heartbeats import Pace
from app.metrics.clocks import NodeClocks
from app.metrics.live import HostDetail, Live
from app.metrics.series_ids import SeriesIds
from app.metrics.subjects import Subjects
from app.metrics.writer import Batch, Writer
from app.nodes.service import require_own
from protocol.samples import SampleAck, SampleBatch, SampleReport

_REPORT = TypeAdapter(SampleReport)
_IMPLAUSIBLE = {"greater_than_equal", "less_than_equal", "finite_number", "int_from_float"}
_FUTURE_MS = 60_000
"""A corrected clock may be this far ahead; a row from beyond is pinned to now."""
_BACKLOG_WHEN_IDLE, _BACKLOG_WHEN_BUSY = 120, 30


@dataclass(slots=True)
class _Left:
    """What of a report is not stored as it came."""

    unknown: int = 0
    expired: int = 0


class Intake:
    """Everything between an agent's report of measurements and its answer."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: SampleStore,
        subjects: Subjects,
        writer: Writer,
        live: Live,
        pace: Pace,
        keep_ms: int,
    ) -> None:
        self._clock = clock
        self._subjects = subjects
        self._writer = writer
        self._live = live
        self._pace = pace
        self._keep_ms = keep_ms
        self._series = SeriesIds(store)
        self.clocks = NodeClocks()
        self.dropped: dict[str, int] = {}
        """By node: rows that its agent had to give up."""
        self.implausible = 0
        self.unknown = 0

    async def accept(self, data: bytes, sender: NodePrincipal) -> SampleAck:
        """Store a report. Once this returns, all of it is stored.

        Raises:
            InvalidInputError, MalformedJsonError: it's no such report; nothing is stored.
            ForbiddenError: it's in another node's name.
            OverloadedError, StoreUnavailableError: not now.
        """
        report, implausible = parse(data)
        require_own(sender, report)
        now_ms = milliseconds(self._clock.now())
        self.clocks.note(sender.name, sent_at_ms=report.sent_at_ms, arrived_at_ms=now_ms)
        left = _Left()
        named: dict[int, Subject] = {}
        batches = [
            await self._batch(batch, sender, now_ms, left, named) for batch in report.batches
        ]
        stored = await self._writer.store(sender.name, batches)
        self._show(sender.name, stored.fresh, named)
        self._live.details[sender.name] = HostDetail(report.disks, report.networks)
        self.dropped[sender.name] = report.dropped_rows
        self.implausible += implausible
        self.unknown += left.unknown
        return SampleAck(
            rows=stored.rows,
            duplicates=stored.duplicates,
            unknown=left.unknown,
            implausible=implausible,
            expired=left.expired,
            interval_seconds=self._pace.samples_interval_seconds,
            backlog_batches=self._backlog_batches(),
        )

    def _backlog_batches(self) -> int:
        fill = self._writer.fill
        if fill < 0.1:
            return _BACKLOG_WHEN_IDLE
        return _BACKLOG_WHEN_BUSY if fill < 0.5 else 0

    async def _batch(
        self,
        batch: SampleBatch,
        sender: NodePrincipal,
        now_ms: int,
        left: _Left,
        named: dict[int, Subject],
    ) -> Batch:
        rows: dict[Kind, list[Row]] = {}
        for kind, part, keys in (
            (Kind.HOST, batch.host, (sender.name,)),
            (Kind.DEVICE, batch.devices, batch.devices.keys if batch.devices else ()),
            (Kind.TASK, batch.tasks, batch.tasks.keys if batch.tasks else ()),
        ):
            if part is None or not part.taken_at_ms:
                continue
            ids = await self._ids(sender, kind, keys, named)
            key = getattr(part, "key", None)
            of = [ids[0]] * len(part.taken_at_ms) if key is None else [ids[k] for k in key]
            times = self._times(sender.name, part.taken_at_ms, now_ms)
            made = list(zip(times, of, *_values(kind, part.values), strict=False))
            oldest = now_ms - self._keep_ms
            if None in of or min(times) < oldest:
                known = [row for row in made if row[1] is not None]
                kept = [row for row in known if row[0] >= oldest]
                left.unknown += len(made) - len(known)
                left.expired += len(known) - len(kept)
                made = kept
            rows[kind] = made
        return Batch(epoch=batch.epoch, seq=batch.seq, rows=rows)

    def _times(self, node: str, taken_at_ms: Sequence[int], now_ms: int) -> list[int]:
        offset_ms = self.clocks.offset_ms(node)
        latest = now_ms + _FUTURE_MS
        if not offset_ms and max(taken_at_ms) <= latest:
            return list(taken_at_ms)
        moved = (at_ms + offset_ms for at_ms in taken_at_ms)
        return [now_ms if at_ms > latest else max(at_ms, 0) for at_ms in moved]

    async def _ids(
        self,
        sender: NodePrincipal,
        kind: Kind,
        keys: Sequence[str],
        named: dict[int, Subject],
    ) -> list[int | None]:
        """The series of each key; None for what isn't this node's."""
        found = await self._subjects.find(sender.id, sender.name, kind, keys)
        series = await self._series.of(found.values())
        ids: list[int | None] = []
        for key in keys:
            subject = found.get(key)
            ids.append(None if subject is None else series[subject])
            if subject is not None:
                named[series[subject]] = subject
        return ids

    def _show(self, node: str, batches: Sequence[Batch], named: dict[int, Subject]) -> None:
        for batch in batches:
            for kind, rows in batch.rows.items():
                newest = {row[1]: row for row in rows}  # rows come in order of time
                for row in newest.values():
                    self._live.update(kind, node, named[row[1]].key, row[0], row[2:])


def _values(kind: Kind, values: BaseModel) -> list[Any]:
    """One iterable a column, in the order of the table; ``zip`` ends with the times."""
    return [
        repeat(None) if (column := getattr(values, name.name)) is None else column
        for name in kind.columns
    ]


def parse(data: bytes) -> tuple[SampleReport, int]:
    """The report, and how many of its values can't be: these are unknown, the rest counts.

    Raises:
        InvalidInputError, MalformedJsonError: with every fault.
    """
    try:
        return _REPORT.validate_json(data), 0
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        places = [fault["loc"] for fault in faults if _is_value(fault["loc"], fault["type"])]
        if not places or len(places) < len(faults):
            raise invalid(error) from error
    form = json.loads(data)
    for place in places:
        at: Any = form
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = None
    try:
        return _REPORT.validate_json(json.dumps(form)), len(places)
    except ValidationError as error:
        raise invalid(error) from error


def _is_value(place: tuple[int | str, ...], kind: str) -> bool:
    """Whether a fault is one measured value that is a number, and can't be."""
    return (
        kind in _IMPLAUSIBLE
        and len(place) == 6
        and place[0] == "batches"
        and place[3] == "values"
        and isinstance(place[5], int)
    )
