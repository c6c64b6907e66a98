"""What storing measurements costs: reports over HTTP, and the same rows by SQLite alone."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Case
from benchmarks.live_service import (
    DEVICE_MEMORY_MIB,
    DEVICES,
    LiveService,
    PlayedNode,
    device_uuid,
)
from telemetry.samples import DeviceSample, HostSample
from telemetry.stats import quantile

REPORTS = 500
ROWS_PER_REPORT = 1 + DEVICES
BATCH_ROWS = 800
INTERVAL_MS = 100
"""Between two samples, so that each has a key of its own."""


def run() -> Iterator[Case]:
    """One report after the other, then the rows that they left, written again without us."""
    with LiveService() as service:
        node = PlayedNode(service)
        try:
            seconds = _report_seconds(node)
        finally:
            node.close()
        service.stop()
        tables = _take_rows(service.database)
        stored = sum(len(table.rows) for table in tables)
        if stored != REPORTS * ROWS_PER_REPORT:
            raise RuntimeError(f"{stored} rows are stored of {REPORTS * ROWS_PER_REPORT}")
        each = _write_seconds(service.database, tables, reports_per_commit=1)
        batches = _write_seconds(
            service.database, tables, reports_per_commit=BATCH_ROWS // ROWS_PER_REPORT
        )
    rate, each_rate, batch_rate = (stored / total for total in (sum(seconds), each, batches))
    what = f"report of 1 host and {DEVICES} device samples, {REPORTS} one after the other"
    yield _rate(f"{what}: rate", REPORTS / sum(seconds), "reports/s")
    yield Case(case=f"{what}: p99", value=quantile(seconds, 0.99), unit="s", better="lower")
    yield _rate(f"{what}: rows", rate, "rows/s")
    yield _rate("the same rows by executemany, one commit a report", each_rate, "rows/s")
    yield _rate(
        f"the same rows by executemany, {BATCH_ROWS // ROWS_PER_REPORT} reports a commit",
        batch_rate,
        "rows/s",
    )
    yield _rate("service / executemany with one commit a report", rate / each_rate, "ratio")
    yield _rate("service / executemany in batches", rate / batch_rate, "ratio")


def _rate(case: str, value: float, unit: str) -> Case:
    return Case(case=case, value=value, unit=unit, better="higher")


def _report_seconds(node: PlayedNode) -> list[float]:
    """Wall seconds of each POST; building and encoding the report is the agent's and not in it."""
    first_ms = time.time_ns() // 1_000_000 - REPORTS * INTERVAL_MS
    seconds = []
    for index in range(REPORTS):
        taken_at_ms = first_ms + index * INTERVAL_MS
        devices = tuple(_device_sample(device, index, taken_at_ms) for device in range(DEVICES))
        body = node.report_form(host=_host_sample(index, taken_at_ms), devices=devices)
        start = time.perf_counter()
        node.send(body)
        seconds.append(time.perf_counter() - start)
    return seconds


def _host_sample(index: int, taken_at_ms: int) -> HostSample:
    return HostSample(
        taken_at_ms=taken_at_ms,
        cpu_user_seconds=100.0 + index,
        cpu_system_seconds=10.0 + index / 10,
        cpu_idle_seconds=1000.0 + index,
        cpu_iowait_seconds=1.0,
        cpu_steal_seconds=0.0,
        load_1m=4.0,
        load_5m=3.0,
        load_15m=2.0,
        memory_total_mib=786_432,
        memory_available_mib=500_000 - index,
        swap_total_mib=0,
        swap_used_mib=0,
        disk_free_mib=900_000,
        disk_read_bytes=index * 4096,
        disk_written_bytes=index * 8192,
        network_received_bytes=index * 1500,
        network_sent_bytes=index * 1500,
        pressure_cpu_some_percent=1.5,
        pressure_memory_some_percent=0.0,
        pressure_memory_full_percent=0.0,
        pressure_io_some_percent=0.5,
        pressure_io_full_percent=0.1,
    )


def _device_sample(device: int, index: int, taken_at_ms: int) -> DeviceSample:
    used_mib = 1000 * device + index
    return DeviceSample(
        uuid=device_uuid(device),
        taken_at_ms=taken_at_ms,
        utilization_percent=(device * 10 + index) % 101,
        memory_used_mib=used_mib,
        memory_reserved_mib=500,
        memory_free_mib=DEVICE_MEMORY_MIB - 500 - used_mib,
        power_watts=250.0 + device,
        energy_joules=1000.0 * index,
        temperature_celsius=60 + device,
        clock_sm_mhz=1410,
        clock_memory_mhz=1215,
        throttle_reasons=0,
        simulated=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredTable:
    """A table's rows as the service wrote them, in order of time."""

    name: str
    rows: list[tuple[object, ...]]
    rows_per_report: int


def _take_rows(database: Path) -> tuple[_StoredTable, ...]:
    """The rows of the sample tables. The service is down: nobody else is in its database."""
    with closing(_connection(database)) as connection:
        return tuple(
            _StoredTable(
                name=name,
                rows=connection.execute(f"SELECT * FROM {name} ORDER BY taken_at_ms").fetchall(),
                rows_per_report=rows_per_report,
            )
            for name, rows_per_report in (("host_samples", 1), ("device_samples", DEVICES))
        )


def _write_seconds(
    database: Path, tables: tuple[_StoredTable, ...], *, reports_per_commit: int
) -> float:
    """Seconds to write all rows into their emptied tables, under the service's own settings."""
    with closing(_connection(database)) as connection:
        for table in tables:
            connection.execute(f"DELETE FROM {table.name}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        start = time.perf_counter()
        for first in range(0, REPORTS, reports_per_commit):
            connection.execute("BEGIN IMMEDIATE")
            for table in tables:
                width = table.rows_per_report
                rows = table.rows[first * width : (first + reports_per_commit) * width]
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
            connection.execute("COMMIT")
        return time.perf_counter() - start


def _connection(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection
