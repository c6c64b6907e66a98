"""Reports of 100 rows until they are committed, against what the database alone takes."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import load, sample_reports
from benchmarks.databases import postgresql
from benchmarks.harness import Case
from benchmarks.live_service import DEVICES, LiveService, join

NODES = 64
REPORTS_A_NODE = 40
LOOKS = 13
"""Rows of each device in a report: 104 rows in all."""
BATCH_ROWS = 800
_ROWS = NODES * REPORTS_A_NODE * LOOKS * DEVICES
_COPY_TYPES = {"smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4"}


def run() -> Iterator[Case]:
    """PostgreSQL first, then SQLite; each beside what it takes without us in the same run."""
    with postgresql() as url:
        with LiveService(url) as service:
            rate = _ingest_rate(service)
        alone = _copy_rate(url)
    yield from _cases("PostgreSQL", "COPY", rate, alone)
    with LiveService() as service:
        rate = _ingest_rate(service)
        service.stop()
        alone = _executemany_rate(service.home / "stowplan-telemetry.db")
    yield from _cases("SQLite", "executemany", rate, alone)


def _cases(database: str, how: str, rate: float, alone: float) -> Iterator[Case]:
    what = f"reports of {LOOKS * DEVICES} rows into {database}"
    yield Case(case=f"{what}: rows committed", value=rate, unit="rows/s", better="higher")
    yield Case(
        case=f"{how} of the same rows, {BATCH_ROWS} a batch",
        value=alone,
        unit="rows/s",
        better="higher",
    )
    yield Case(
        case=f"{what}, against {how} alone",
        value=rate / alone,
        unit="ratio",
        better="higher",
        must=0.3,
        aim=0.5,
        note=f"{_ROWS:,} rows, {NODES} agents at once; as many are in the table afterwards",
    )


def _ingest_rate(service: LiveService) -> float:
    """Rows a second from the first request to the last answer."""
    url = (service.home / "server.url").read_text().strip()
    sent_at_ms = time.time_ns() // 1_000_000
    first_ms = sent_at_ms - REPORTS_A_NODE * LOOKS * 1000
    with service.client("join.token") as joining:
        tokens = {f"node-{n}": join(joining, f"node-{n}") for n in range(NODES)}
    queues = [
        [
            load.post(
                "/agent/v1/samples",
                token,
                sample_reports.report(
                    node,
                    seq=1 + number,
                    sent_at_ms=sent_at_ms,
                    first_ms=first_ms + number * LOOKS * 1000,
                    looks=LOOKS,
                    every_ms=1000,
                    host=False,
                ),
            )
            for number in range(REPORTS_A_NODE)
        ]
        for node, token in tokens.items()
    ]
    start = time.perf_counter()
    answers = asyncio.run(load.all_at_once(url, queues))
    seconds = time.perf_counter() - start
    rows = sum(json.loads(answer.body)["rows"] for answer in answers if answer.status == 200)
    if rows != _ROWS:
        raise RuntimeError(f"{rows} rows were stored of {_ROWS}")
    return rows / seconds


def _copy_rate(url: str) -> float:
    """The rows that are there, by binary COPY into a table with the same partitions and indexes."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_name = 'device_samples' ORDER BY ordinal_position"
        ).fetchall()
        rows = connection.execute("SELECT * FROM device_samples").fetchall()
        if len(rows) != _ROWS:
            raise RuntimeError(f"{len(rows)} rows are in the table, not {_ROWS}")
        # What the service wrote goes: the same rows into the same table, with nobody else there.
        connection.execute("TRUNCATE device_samples")
        connection.commit()
        types = [_COPY_TYPES.get(kind, "float8") for _, kind in columns]
        start = time.perf_counter()
        for first in range(0, len(rows), BATCH_ROWS):
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY device_samples FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types(types)
                for row in rows[first : first + BATCH_ROWS]:
                    copy.write_row(row)
            connection.commit()
        return len(rows) / (time.perf_counter() - start)


def _executemany_rate(file: Path) -> float:
    """The rows that are there, written again into the emptied table, as durably."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        rows: list[tuple[Any, ...]] = connection.execute("SELECT * FROM device_samples").fetchall()
        if len(rows) != _ROWS:
            raise RuntimeError(f"{len(rows)} rows are in the table, not {_ROWS}")
        connection.execute("DELETE FROM device_samples")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        marks = ", ".join("?" * len(rows[0]))
        start = time.perf_counter()
        for first in range(0, len(rows), BATCH_ROWS):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO device_samples VALUES ({marks})", rows[first : first + BATCH_ROWS]
            )
            connection.execute("COMMIT")
        return len(rows) / (time.perf_counter() - start)
