"""Measurements, and how measuring itself goes, for Prometheus.

One metric after the other: between two of them the service does other work.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.db.samples.tables import HOUR, MINUTE, Kind, rollups
from app.metrics.exposition import Family, labels
from app.metrics.families import FAMILIES
from app.metrics.growth import Growth
from app.metrics.live import INDEX, Reading
from app.metrics.telemetry import Telemetry
from app.turns import Turns, in_turns

Labelled = tuple[str, tuple[float | None, ...]]


async def exposition(telemetry: Telemetry, growth: Growth, *, now_ms: int) -> AsyncIterator[str]:
    """The text, metric by metric."""
    await telemetry.fleet.refresh(now_ms=now_ms)
    turns = Turns()
    for kind in Kind:
        rows = await _labelled(telemetry, kind, now_ms)
        for family in FAMILIES[kind]:
            place = INDEX[kind][family.column]
            text = family.text([(named, values[place]) for named, values in rows])
            if text:
                yield text
            await turns.rest()
    for text in _own(telemetry):
        yield text
    for text in await _of_store(telemetry, growth, now_ms):
        yield text


async def _labelled(telemetry: Telemetry, kind: Kind, now_ms: int) -> list[Labelled]:
    rows: list[Labelled] = []
    devices = {
        (node, device.uuid): device
        for node, devices in telemetry.fleet.roster.devices.items()
        for device in devices
    }
    async for reading in in_turns(telemetry.live.readings(kind, now_ms=now_ms)):
        match kind:
            case Kind.HOST:
                named = {"node": reading.node}
            case Kind.DEVICE:
                named = _of_device(reading, devices.get((reading.node, reading.key)))
            case Kind.TASK:
                named = _of_replica(telemetry, reading)
        rows.append((labels(named), reading.values))
    return rows


def _of_device(reading: Reading, known: Any) -> dict[str, str]:
    """Labels as dcgm-exporter has them; a simulated device says so."""
    named = {"UUID": reading.key, "Hostname": reading.node}
    if known is None:
        return named
    named = {
        "gpu": str(known.index),
        "UUID": reading.key,
        "device": f"nvidia{known.index}",
        "modelName": known.model,
        "Hostname": reading.node,
    }
    return named | {"simulated": "true"} if known.simulated else named


def _of_replica(telemetry: Telemetry, reading: Reading) -> dict[str, str]:
    known = telemetry.fleet.replica(reading.key)
    named = {"node": reading.node, "allocation": reading.key}
    if known is None:
        return named
    return {
        "task": known.task,
        "name": known.name,
        "queue": known.queue,
        "replica": str(known.replica),
        **named,
    }


_FILL = Family(name="stowplan_samples_queue_fill", about="How full the queue of rows is, 0 to 1.")
_STORED = Family(name="stowplan_samples_rows_stored_total", about="Rows stored.", type="counter")
_REFUSED = Family(
    name="stowplan_samples_refused_total",
    about="Reports told to come again: the queue was full.",
    type="counter",
)
_FAILURES = Family(
    name="stowplan_samples_store_failures_total",
    about="Transactions that the store didn't take.",
    type="counter",
)
_IMPLAUSIBLE = Family(
    name="stowplan_samples_implausible_total",
    about="Values that can't be, stored as unknown.",
    type="counter",
)
_UNKNOWN = Family(
    name="stowplan_samples_unknown_total",
    about="Rows of devices and allocations that their node doesn't have.",
    type="counter",
)
_DROPPED = Family(
    name="stowplan_node_dropped_rows_total",
    about="Rows that the node's agent had to give up.",
    type="counter",
)
_OFFSET = Family(
    name="stowplan_node_clock_offset_seconds",
    about="What is added to the node's times; 0 while its clock is right enough.",
)
_LAG = Family(
    name="stowplan_samples_rollup_lag_seconds", about="Up to how long ago rows are rolled up."
)
_TABLE_BYTES = Family(
    name="stowplan_samples_table_bytes", about="Size of a table, with indexes; of SQLite's file."
)
_DISK_FREE = Family(
    name="stowplan_samples_disk_free_bytes", about="Free space where the store's file is."
)
_DISK_LEFT = Family(
    name="stowplan_samples_disk_full_in_seconds",
    about="Time until the disk is full, if the store grows on as it does.",
)
OWN = (
    _FILL, _STORED, _REFUSED, _FAILURES, _IMPLAUSIBLE, _UNKNOWN, _DROPPED, _OFFSET, _LAG,
    _TABLE_BYTES, _DISK_FREE, _DISK_LEFT,
)  # fmt: skip


def _own(telemetry: Telemetry) -> Iterable[str]:
    writer, intake = telemetry.writer, telemetry.intake
    yield _FILL.text([("", writer.fill)])
    yield _STORED.text([("", writer.rows_stored)])
    yield _REFUSED.text([("", writer.refused)])
    yield _FAILURES.text([("", writer.failures)])
    yield _IMPLAUSIBLE.text([("", intake.implausible)])
    yield _UNKNOWN.text([("", intake.unknown)])
    nodes = {node: labels({"node": node}) for node in sorted(intake.dropped)}
    yield _DROPPED.text([(named, intake.dropped[node]) for node, named in nodes.items()])
    yield _OFFSET.text(
        [(named, intake.clocks.offset_ms(node) / 1000) for node, named in nodes.items()]
    )


async def _of_store(telemetry: Telemetry, growth: Growth, now_ms: int) -> list[str]:
    """What the store says of itself; nothing while it doesn't answer: the rest is wanted then."""
    try:
        async with telemetry.store.read() as session:
            found = (await session.execute(select(rollups))).all()
        sizes = await telemetry.store.sizes()
        free = telemetry.store.disk_free_bytes()
    except (SQLAlchemyError, OSError):
        return []
    widths = {of.name: of.width_ms for of in (MINUTE, HOUR)}
    lags = [
        (
            labels({"kind": row.kind, "resolution": row.resolution}),
            (now_ms - row.done_until_ms) / 1000,
        )
        for row in found
        if row.resolution in widths
    ]
    growth.note(now_ms, sum(sizes.values()))
    return [
        _LAG.text(lags),
        _TABLE_BYTES.text([(labels({"table": name}), size) for name, size in sizes.items()]),
        _DISK_FREE.text([("", free)]),
        _DISK_LEFT.text([("", None if free is None else growth.seconds_until(free))]),
    ]
