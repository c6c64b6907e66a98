"""What a day of a large fleet leaves behind, made by SQL: sending it would take the day."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.tables import HOUR, MINUTE, Kind, Resolution, rollups, series, table
from app.db.tables import Device, Node
from app.metrics.telemetry import Telemetry
from telemetry.columns import Column, Fold

DEVICES_A_NODE = 8
QUEUES, MODELS, DEVICES_A_TASK = 20, 4, 4
HOURS = 24
DAYS_OF_MINUTES = 7
RAW_SECONDS = 10
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


def node_name(number: int) -> str:
    return f"node-{number:05d}"


def device_uuid(node: int, index: int) -> str:
    return f"GPU-{node:05d}-{index}"


async def fill(app: Any, devices: int, minute_devices: int, now_ms: int) -> int:
    """Nodes, devices and what was measured of them; how many rows of measurements that is."""
    nodes = devices // DEVICES_A_NODE
    async with app.state.context.database.write() as session:
        await _fill_nodes(session, nodes)
    telemetry: Telemetry = app.state.telemetry
    store = telemetry.store
    async with store.database.write() as session:
        await session.execute(insert(series), _subjects(nodes))
        for kind in Kind:
            for resolution in (HOUR, MINUTE):
                done_ms = now_ms // resolution.width_ms * resolution.width_ms
                form = {"kind": kind, "resolution": resolution.name, "done_until_ms": done_ms}
                await session.execute(insert(rollups), form)
    await telemetry.roller.open()
    days = [now_ms - day * _DAY_MS for day in range(DAYS_OF_MINUTES + 1)]
    rows = 0
    for kind, resolution, of, stretches in (
        (Kind.HOST, HOUR, nodes, HOURS),
        (Kind.TASK, HOUR, devices, HOURS),
        (Kind.DEVICE, HOUR, devices, HOURS),
        (Kind.DEVICE, HOUR, minute_devices, DAYS_OF_MINUTES * 24),
        (Kind.DEVICE, MINUTE, minute_devices, DAYS_OF_MINUTES * 1440),
    ):
        async with store.database.write() as session:
            if not store.is_sqlite:
                await store.partitions.ensure(session, days, now_ms=now_ms)
            done = await session.execute(
                text(_insert(kind, resolution, is_sqlite=store.is_sqlite)),
                {
                    "of": of,
                    "stretches": stretches,
                    "end": now_ms // resolution.width_ms * resolution.width_ms,
                },
            )
            rows += done.rowcount  # pyright: ignore[reportAttributeAccessIssue]
    if not store.is_sqlite:
        async with store.database.write() as session:
            await session.execute(text("ANALYZE"))  # as autovacuum does by itself
    return rows


def _insert(kind: Kind, resolution: Resolution, *, is_sqlite: bool) -> str:
    """Rows of the first series of a kind, one each stretch back from ``:end``, in the order in
    which rollups write them."""
    into = table(kind, resolution)
    names = ", ".join(column.name for column in into.columns)
    values = ", ".join(_value(column) for column in kind.columns)
    numbers = (
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :stretches)"
        " SELECT i FROM n)"
        if is_sqlite
        else "(SELECT generate_series(1, :stretches) AS i)"
    )
    order = "s.id, n.i DESC" if is_sqlite else "n.i DESC, s.id"
    return (
        f"INSERT INTO {into.name} ({names}) "
        f"SELECT s.id, :end - n.i * {resolution.width_ms}, "
        f"{resolution.width_ms // 1000 // RAW_SECONDS}, {values} "
        f"FROM (SELECT id FROM series WHERE kind = '{kind}' ORDER BY id LIMIT :of) s, {numbers} n "
        f"WHERE true ORDER BY {order} ON CONFLICT DO NOTHING"
    )


def _value(column: Column) -> str:
    if column.fold is Fold.COUNTER:
        return "(1000000 - n.i) * 1000"
    if column.fold is Fold.MASK or column.most < 100:
        return "0"
    return "(s.id * 7 + n.i * 13) % 100"


def _subjects(nodes: int) -> list[dict[str, Any]]:
    plain = {"model": "", "queue": "", "task": "", "devices": 0, "gpu_milli": 0}
    hosts = [
        {**plain, "kind": Kind.HOST, "key": node_name(node), "node": node_name(node)}
        for node in range(nodes)
    ]
    places = [(node, index) for node in range(nodes) for index in range(DEVICES_A_NODE)]
    devices = [
        {
            **plain,
            "kind": Kind.DEVICE,
            "key": device_uuid(node, index),
            "node": node_name(node),
            "model": f"model-{node % MODELS}",
        }
        for node, index in places
    ]
    replicas = [
        {
            "kind": Kind.TASK,
            "key": f"a-{number:06d}",
            "node": node_name(node),
            "model": "",
            "queue": f"queue-{number // DEVICES_A_TASK % QUEUES}",
            "task": f"t-{number // DEVICES_A_TASK:06d}",
            "devices": 1,
            "gpu_milli": 1000,
        }
        for number, (node, _) in enumerate(places)
    ]
    return [*hosts, *devices, *replicas]


async def _fill_nodes(session: AsyncSession, nodes: int) -> None:
    now = datetime.now(UTC)
    await session.execute(
        insert(Node),
        [
            {
                "id": number + 1,
                "name": node_name(number),
                "state": "ready",
                "address": "127.0.0.1",
                "token_digest": node_name(number),
                "boot_id": "",
                "cpu_milli": 64_000,
                "memory_mib": 1 << 20,
                "disk_mib": 1 << 20,
                "network_mbps": 100_000,
                "labels": {},
                "domains": {},
                "host": {},
                "registered_at": now,
                "last_seen_at": now,
                "row_version": 1,
            }
            for number in range(nodes)
        ],
    )
    await session.execute(
        insert(Device),
        [
            {
                "node_id": node + 1,
                "uuid": device_uuid(node, index),
                "index": index,
                "model": f"model-{node % MODELS}",
                "memory_mib": 81_920,
                "links": {},
                "healthy": True,
                "simulated": False,
                "row_version": 1,
            }
            for node in range(nodes)
            for index in range(DEVICES_A_NODE)
        ],
    )


def update_live(telemetry: Telemetry, devices: int, at_ms: int) -> None:
    """A new row of every host and device, as reports leave it in memory."""
    live = telemetry.live
    host = tuple(50.0 + place for place in range(len(Kind.HOST.columns)))
    device = tuple(3.0 + place for place in range(len(Kind.DEVICE.columns)))
    for node in range(devices // DEVICES_A_NODE):
        name = node_name(node)
        live.update(Kind.HOST, name, name, at_ms, host)
        for index in range(DEVICES_A_NODE):
            live.update(Kind.DEVICE, name, device_uuid(node, index), at_ms, device)
