"""Measurements: stored as they come, read as the latest or as a series made for charts."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sqlalchemy import RowMapping, Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Device, Node, device_samples, host_samples
from app.db.upsert import insert_new
from app.metrics.schemas import (
    Columns,
    DeviceColumns,
    DeviceLatest,
    HostLatest,
    NodeLatest,
    NodeSeries,
)
from telemetry.samples import DeviceSample, HostSample
from telemetry.stats import counter_rate, cpu_busy_ratio, host_rates

LATEST_WINDOW_MS = 120_000
"""A sample older than this is no "latest" any more: silence isn't shown as the last thing heard."""

_HOST_FIELDS = tuple(column.name for column in host_samples.columns if column.name != "node_id")


async def store(
    session: AsyncSession,
    *,
    node_id: int,
    host: HostSample | None,
    devices: Sequence[DeviceSample],
    is_sqlite: bool,
) -> None:
    """Add one report's samples. A sample of a device that the node doesn't have is dropped."""
    if host is not None:
        row = {"node_id": node_id, **asdict(host)}
        await insert_new(session, host_samples, [row], is_sqlite=is_sqlite)
    if not devices:
        return
    ids = {
        uuid: device_id
        for device_id, uuid in await session.execute(
            select(Device.id, Device.uuid).where(Device.node_id == node_id)
        )
    }
    rows = [_device_row(ids[sample.uuid], sample) for sample in devices if sample.uuid in ids]
    await insert_new(session, device_samples, rows, is_sqlite=is_sqlite)


def _device_row(device_id: int, sample: DeviceSample) -> dict[str, Any]:
    values = asdict(sample)
    row = {
        column.name: values[column.name]
        for column in device_samples.columns
        if column.name in values
    }
    count = None if sample.processes is None else len(sample.processes)
    return {**row, "device_id": device_id, "process_count": count}


async def latest(session: AsyncSession, *, now: datetime, node: str | None) -> list[NodeLatest]:
    """The newest sample of each host and device, with rates since the one before."""
    since_ms = round(now.timestamp() * 1000) - LATEST_WINDOW_MS
    named = select(Node.id, Node.name).order_by(Node.name)
    if node is not None:
        named = named.where(Node.name == node)
    nodes = (await session.execute(named)).all()
    ids = [row.id for row in nodes]
    hosts: dict[int, list[RowMapping]] = defaultdict(list)
    for row in await _since(session, host_samples, host_samples.c.node_id.in_(ids), since_ms):
        hosts[row["node_id"]].append(row)
    devices = (
        await session.execute(
            select(Device.id, Device.node_id, Device.uuid, Device.simulated)
            .where(Device.node_id.in_(ids))
            .order_by(Device.node_id, Device.index)
        )
    ).all()
    of_device = device_samples.c.device_id.in_([device.id for device in devices])
    newest = {
        row["device_id"]: row for row in await _since(session, device_samples, of_device, since_ms)
    }
    return [
        NodeLatest(
            node=row.name,
            host=_host_latest(hosts[row.id][-2:]),
            devices=[
                _device_latest(device.uuid, newest[device.id], simulated=device.simulated)
                for device in devices
                if device.node_id == row.id and device.id in newest
            ],
        )
        for row in nodes
    ]


async def _since(
    session: AsyncSession, table: Table, which: Any, since_ms: int
) -> Sequence[RowMapping]:
    query = (
        select(table).where(table.c.taken_at_ms >= since_ms, which).order_by(table.c.taken_at_ms)
    )
    return (await session.execute(query)).mappings().all()


def _host_latest(rows: Sequence[RowMapping]) -> HostLatest | None:
    if not rows:
        return None
    last = _host_sample(rows[-1])
    rates = host_rates(_host_sample(rows[0]), last) if len(rows) > 1 else None
    busy = None if rates is None else rates.cpu_busy_ratio
    return HostLatest(
        taken_at_ms=last.taken_at_ms,
        cpu_percent=None if busy is None else 100 * busy,
        load_1m=last.load_1m,
        memory_used_mib=last.memory_total_mib - last.memory_available_mib,
        memory_total_mib=last.memory_total_mib,
        swap_used_mib=last.swap_used_mib,
        disk_free_mib=last.disk_free_mib,
        disk_read_bytes_per_second=rates and rates.disk_read_bytes_per_second,
        disk_written_bytes_per_second=rates and rates.disk_written_bytes_per_second,
        network_received_bytes_per_second=rates and rates.network_received_bytes_per_second,
        network_sent_bytes_per_second=rates and rates.network_sent_bytes_per_second,
        pressure_cpu_some_percent=last.pressure_cpu_some_percent,
        pressure_memory_some_percent=last.pressure_memory_some_percent,
        pressure_io_some_percent=last.pressure_io_some_percent,
    )


def _host_sample(row: RowMapping) -> HostSample:
    return HostSample(**{name: row[name] for name in _HOST_FIELDS})


def _device_latest(uuid: str, row: RowMapping, *, simulated: bool) -> DeviceLatest:
    return DeviceLatest(
        uuid=uuid,
        simulated=simulated,
        taken_at_ms=row["taken_at_ms"],
        utilization_percent=row["utilization_percent"],
        memory_used_mib=row["memory_used_mib"],
        memory_free_mib=row["memory_free_mib"],
        power_watts=row["power_watts"],
        temperature_celsius=row["temperature_celsius"],
        processes=row["process_count"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time cut into points of equal width."""

    start_ms: int
    end_ms: int
    points: int

    @property
    def width_ms(self) -> int:
        return max(1, -(-(self.end_ms - self.start_ms) // self.points))


async def series(session: AsyncSession, node: Node, window: Window) -> NodeSeries:
    """A node's measurements over a window: gauges as means, counters as rates between points."""
    host = await _buckets(session, host_samples, host_samples.c.node_id == node.id, window)
    devices = []
    for device in node.devices:
        which = device_samples.c.device_id == device.id
        rows = await _buckets(session, device_samples, which, window)
        devices.append(
            DeviceColumns(
                uuid=device.uuid,
                index=device.index,
                model=device.model,
                simulated=device.simulated,
                columns=_columns(rows, _DEVICE_GAUGES, {}),
            )
        )
    columns = _columns(host, _HOST_GAUGES, _HOST_RATES)
    columns["cpu_percent"] = _cpu_percent(host)
    return NodeSeries(
        node=node.name,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
        resolution_seconds=window.width_ms / 1000,
        host=Columns(columns=columns),
        devices=devices,
    )


_HOST_GAUGES = (
    "load_1m",
    "memory_total_mib",
    "memory_available_mib",
    "swap_used_mib",
    "disk_free_mib",
    "pressure_cpu_some_percent",
    "pressure_memory_some_percent",
    "pressure_io_some_percent",
)
_HOST_RATES = {
    "disk_read_bytes": "disk_read_bytes_per_second",
    "disk_written_bytes": "disk_written_bytes_per_second",
    "network_received_bytes": "network_received_bytes_per_second",
    "network_sent_bytes": "network_sent_bytes_per_second",
}
_CPU_COUNTERS = (
    "cpu_user_seconds",
    "cpu_system_seconds",
    "cpu_idle_seconds",
    "cpu_iowait_seconds",
    "cpu_steal_seconds",
)
_COUNTERS = frozenset({*_HOST_RATES, *_CPU_COUNTERS})
_DEVICE_GAUGES = (
    "utilization_percent",
    "memory_used_mib",
    "power_watts",
    "temperature_celsius",
    "clock_sm_mhz",
)


async def _buckets(
    session: AsyncSession, table: Table, which: Any, window: Window
) -> Sequence[RowMapping]:
    """One row a point: the mean of each gauge, the last reading of each counter, the last time."""
    times = table.c.taken_at_ms
    bucket = (times - window.start_ms) // window.width_ms
    values = [
        (func.max if column.name in _COUNTERS else func.avg)(column).label(column.name)
        for column in table.columns
        if not column.primary_key
    ]
    query = (
        select(func.max(times).label("taken_at_ms"), *values)
        .where(times >= window.start_ms, times <= window.end_ms, which)
        .group_by(bucket)
        .order_by(bucket)
    )
    return (await session.execute(query)).mappings().all()


def _columns(
    rows: Sequence[RowMapping], gauges: Sequence[str], rates: dict[str, str]
) -> dict[str, list[float | None]]:
    columns: dict[str, list[float | None]] = {"time": [float(row["taken_at_ms"]) for row in rows]}
    for name in gauges:
        columns[name] = [None if row[name] is None else float(row[name]) for row in rows]
    for counter, rate in rates.items():
        columns[rate] = [
            None,
            *(_rate(a, b, counter) for a, b in pairwise(rows)),
        ][: len(rows)]
    return columns


def _rate(earlier: RowMapping, later: RowMapping, counter: str) -> float | None:
    seconds = (later["taken_at_ms"] - earlier["taken_at_ms"]) / 1000
    return counter_rate(earlier[counter], later[counter], seconds)


def _cpu_percent(rows: Sequence[RowMapping]) -> list[float | None]:
    samples = [
        HostSample(
            taken_at_ms=row["taken_at_ms"],
            memory_total_mib=0,
            memory_available_mib=0,
            **{name: row[name] for name in _CPU_COUNTERS},
        )
        for row in rows
    ]
    busy = [None, *(cpu_busy_ratio(a, b) for a, b in pairwise(samples))]
    return [None if ratio is None else 100 * ratio for ratio in busy[: len(rows)]]


async def drop_older(session: AsyncSession, before_ms: int, *, rows: int) -> int:
    """Delete samples taken before a time, at most so many of each table; gives how many went."""
    dropped = 0
    for table in (host_samples, device_samples):
        # A time bound instead of row keys: the key begins with the time, so this is one range
        # delete.
        nth = await session.scalar(
            select(table.c.taken_at_ms)
            .where(table.c.taken_at_ms < before_ms)
            .order_by(table.c.taken_at_ms)
            .offset(rows)
            .limit(1)
        )
        bound = before_ms if nth is None else nth
        result = await session.execute(delete(table).where(table.c.taken_at_ms < bound))
        dropped += result.rowcount  # pyright: ignore[reportAttributeAccessIssue]
    return dropped
