"""Reports of measurements as agents send them: eight devices, every sensor of a data-centre GPU."""

from benchmarks.live_service import DEVICE_MEMORY_MIB, DEVICES, device_uuid
from protocol import VERSION
from protocol.samples import DeviceColumns, HostColumns, SampleBatch, SampleReport
from telemetry import columns
from telemetry.columns import Column

UNMEASURED = {"foreign_memory_mib", "fan_percent", "memory_temperature_celsius"}
"""Sensors that such a GPU lacks, or that tell nothing most of the time."""

QUIET = {
    "throttle_reasons",
    "power_violation_seconds",
    "thermal_violation_seconds",
    "pcie_replays",
    "ecc_corrected",
    "ecc_uncorrected",
    "remapped_rows",
    "memory_repair_pending",
    "memory_repair_failed",
    "foreign_process_count",
}
"""What is 0 while a GPU is well: another number would have it quarantined."""


def report(
    node: str, *, seq: int, sent_at_ms: int, first_ms: int, looks: int, every_ms: int, host: bool
) -> bytes:
    """``looks`` rows of each device, and of the host, ``every_ms`` apart, in one batch."""
    times = [first_ms + look * every_ms for look in range(looks)]
    form = SampleReport(
        version=VERSION,
        node=node,
        sent_at_ms=sent_at_ms,
        batches=(
            SampleBatch(
                epoch="bench",
                seq=seq,
                host=_host(times, seq) if host else None,
                devices=_devices(node, times, seq),
            ),
        ),
    )
    return form.model_dump_json(exclude_none=True).encode()


def _host(times: list[int], seq: int) -> HostColumns:
    values = {
        column.name: [_value(column, seq * len(times) + row) for row in range(len(times))]
        for column in columns.HOST
    }
    return HostColumns.model_validate({"taken_at_ms": times, "values": values})


def _devices(node: str, times: list[int], seq: int) -> DeviceColumns:
    rows = [(at_ms, device) for at_ms in times for device in range(DEVICES)]
    values = {
        column.name: [_value(column, seq * len(rows) + row) for row in range(len(rows))]
        for column in columns.DEVICE
        if column.name not in UNMEASURED
    }
    return DeviceColumns.model_validate(
        {
            "keys": tuple(device_uuid(device, node) for device in range(DEVICES)),
            "key": [device for _, device in rows],
            "taken_at_ms": [at_ms for at_ms, _ in rows],
            "values": values,
        }
    )


def _value(column: Column, number: int) -> float:
    """Something that can be, and that differs from row to row as measurements do."""
    if column.name in QUIET:
        return 0 if column.whole else 0.0
    most = min(column.most, DEVICE_MEMORY_MIB if "mib" in column.name else column.most)
    value = (number * 7919 + len(column.name) * 104_729) % max(1, int(min(most, 10**9) + 1))
    return value if column.whole else round(min(value + 0.25, most), 2)
