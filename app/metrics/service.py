"""Measurements as people ask for them: the latest, in words of the API."""

from collections import defaultdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.samples.tables import Kind
from app.db.tables import Device, Node
from app.metrics.live import Live, Reading
from app.metrics.schemas import DeviceLatest, HostLatest, NodeLatest


async def latest(
    session: AsyncSession, live: Live, *, now_ms: int, node: str | None
) -> list[NodeLatest]:
    """The newest row of each host and device, with rates since the one before."""
    named = select(Node.id, Node.name).order_by(Node.name)
    if node is not None:
        named = named.where(Node.name == node)
    nodes = (await session.execute(named)).all()
    devices = defaultdict(list)
    rows = select(Device.node_id, Device.uuid, Device.simulated).order_by(Device.index)
    for device in await session.execute(rows):
        devices[device.node_id].append(device)
    found = []
    for row in nodes:
        host = live.reading(Kind.HOST, row.name, row.name, now_ms=now_ms)
        readings = (
            (live.reading(Kind.DEVICE, row.name, device.uuid, now_ms=now_ms), device.simulated)
            for device in devices[row.id]
        )
        found.append(
            NodeLatest(
                node=row.name,
                host=None if host is None else _host_latest(host),
                devices=[
                    _device_latest(reading, simulated=simulated)
                    for reading, simulated in readings
                    if reading is not None
                ],
            )
        )
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _host_latest(reading: Reading) -> HostLatest:
    total, available = reading.get("memory_total_mib"), reading.get("memory_available_mib")
    return HostLatest(
        taken_at_ms=reading.taken_at_ms,
        cpu_percent=_cpu_percent(reading),
        load_1m=reading.get("load_1m"),
        memory_used_mib=None if total is None or available is None else round(total - available),
        memory_total_mib=_whole(total),
        swap_used_mib=_whole(reading.get("swap_used_mib")),
        disk_free_mib=_whole(reading.get("disk_free_mib")),
        disk_read_bytes_per_second=reading.rate("disk_read_bytes"),
        disk_written_bytes_per_second=reading.rate("disk_written_bytes"),
        network_received_bytes_per_second=reading.rate("network_received_bytes"),
        network_sent_bytes_per_second=reading.rate("network_sent_bytes"),
        pressure_cpu_some_percent=reading.get("pressure_cpu_some_percent"),
        pressure_memory_some_percent=reading.get("pressure_memory_some_percent"),
        pressure_io_some_percent=reading.get("pressure_io_some_percent"),
    )


def _cpu_percent(reading: Reading) -> float | None:
    """Busy CPU time over all CPU time: never over wall time, which differs in a container."""
    grown = {
        name: reading.growth(f"cpu_{name}_seconds")
        for name in ("user", "system", "steal", "idle", "iowait")
    }
    user, system, idle = grown["user"], grown["system"], grown["idle"]
    if user is None or system is None or idle is None:
        return None
    busy = user + system + (grown["steal"] or 0.0)
    total = busy + idle + (grown["iowait"] or 0.0)
    return 100 * busy / total if total > 0 else None


def _device_latest(reading: Reading, *, simulated: bool) -> DeviceLatest:
    return DeviceLatest(
        uuid=reading.key,
        simulated=simulated,
        taken_at_ms=reading.taken_at_ms,
        utilization_percent=_whole(reading.get("utilization_percent")),
        memory_used_mib=_whole(reading.get("memory_used_mib")),
        memory_free_mib=_whole(reading.get("memory_free_mib")),
        power_watts=reading.get("power_watts"),
        temperature_celsius=_whole(reading.get("temperature_celsius")),
        processes=_whole(reading.get("process_count")),
    )
