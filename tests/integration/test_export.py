"""Measurements as files: every row once, in any format, of any size."""

import csv
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from app.db.samples.pages import column_names
from app.db.samples.store import Subject
from app.db.samples.tables import MINUTE, RAW, Kind
from tests.integration.test_series import device, roll_up, store
from tests.service import ManualClock, Service, running


@pytest.fixture
async def timed(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, ManualClock()) as service:
        yield service


async def export(service: Service, **query: Any) -> bytes:
    answer = await service.user.get("/api/v1/telemetry/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


def parsed(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


async def test_csv_has_a_head_and_leaves_unknown_values_empty(timed: Service) -> None:
    now = timed.now_ms()
    await store(timed, device(), [now - 2, now - 1], power_watts=[1.5, None], process_count=[0, 3])
    content = await export(timed, resolution="samples")
    assert content.decode().splitlines()[0] == ",".join(column_names(Kind.DEVICE, RAW))
    first, second = parsed(content)
    assert (first["node"], first["key"], first["model"]) == ("n1", "SIM-n1-0", "A100")
    assert (first["taken_at_ms"], first["power_watts"], first["process_count"]) == (
        str(now - 2),
        "1.5",
        "0",
    )
    assert (second["power_watts"], second["process_count"]) == ("", "3")


async def test_pages_follow_one_another_without_a_gap_or_a_double(timed: Service) -> None:
    now = timed.now_ms()
    times = [now - 10 * n for n in range(1, 4_001)]
    for index in range(3):
        watts = [float(n) for n in range(4_000)]
        await store(timed, device(index=index), times, power_watts=watts)
    wanted = {(f"SIM-n1-{index}", at) for index in range(3) for at in times}
    found = parsed(await export(timed, resolution="samples"))
    assert len(found) == 12_000
    assert {(row["key"], int(row["taken_at_ms"])) for row in found} == wanted
    await roll_up(timed, until_ms=now)
    found = parsed(await export(timed, resolution="minutes"))
    assert sum(int(row["readings"]) for row in found) == 12_000


@pytest.mark.parametrize("name", ["arrow", "parquet"])
async def test_arrow_and_parquet_have_the_same_rows_with_types(timed: Service, name: str) -> None:
    now = timed.now_ms()
    times = [now - 10 * n for n in range(1, 6_001)]
    energy = [2.0**50 - n for n in range(6_000)]
    await store(timed, device(), times, energy_joules=energy, temperature_celsius=[40] * 6_000)
    content = await export(timed, format=name, resolution="samples")
    table = (
        pyarrow.ipc.open_stream(content).read_all()
        if name == "arrow"
        else parquet.read_table(io.BytesIO(content))
    )
    assert table.column_names == list(column_names(Kind.DEVICE, RAW))
    assert table.num_rows == 6_000
    assert sorted(table["energy_joules"].to_pylist()) == sorted(energy)
    assert table.schema.field("temperature_celsius").type == pyarrow.int64()
    assert set(table["power_watts"].to_pylist()) == {None}
    empty = await export(timed, format=name, resolution="hours")
    assert len(empty) > 0, "a file without rows is a file"


async def test_only_what_is_asked_for_is_in_it(timed: Service) -> None:
    now = timed.now_ms()
    for node in ("n1", "n2"):
        for index in range(2):
            await store(timed, device(node, index), [now - 1], power_watts=[1.0])
    replica = Subject(kind=Kind.TASK, key="a-1", node="n1", task="t-1", queue="red")
    await store(timed, replica, [now - 1], cpu_seconds=[1.0])

    async def keys(**query: Any) -> set[str]:
        return {row["key"] for row in parsed(await export(timed, resolution="samples", **query))}

    assert await keys(node="n2") == {"SIM-n2-0", "SIM-n2-1"}
    assert await keys(device="SIM-n1-1") == {"SIM-n1-1"}
    assert await keys(of="task", task="t-1") == {"a-1"}
    assert await keys(of="node") == set()
    assert await keys(end_ms=now - 1) == set()
    await roll_up(timed, until_ms=now + 60_000)
    columns = column_names(Kind.DEVICE, MINUTE)
    assert "readings" in columns
    assert len(parsed(await export(timed, resolution="minutes"))) == 4


async def test_a_name_that_a_spreadsheet_would_run_is_made_text(timed: Service) -> None:
    now = timed.now_ms()
    evil = Subject(kind=Kind.DEVICE, key='=HYPERLINK("x")', node="n1", model="@SUM(1)")
    await store(timed, evil, [now - 1], power_watts=[1.0])
    [row] = parsed(await export(timed, resolution="samples"))
    assert (row["key"], row["model"], row["power_watts"]) == (
        '\'=HYPERLINK("x")',
        "'@SUM(1)",
        "1.0",
    )


async def test_without_pyarrow_csv_is_given_and_the_rest_says_what_to_install(
    timed: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("arrow", "parquet"):
        answer = await timed.user.get(f"/api/v1/telemetry/export?format={name}")
        assert answer.status_code == 501
        assert "pyarrow" in answer.json()["detail"]
    assert await export(timed, format="csv")


async def test_what_cannot_be_exported_is_refused(timed: Service) -> None:
    for query, status in (
        ("of=host", 422),
        ("format=xlsx", 422),
        ("resolution=days", 422),
        ("start_ms=5&end_ms=4", 422),
        ("task=t-1", 422),
        ("of=node&device=x", 422),
        ("node=%00", 422),
        ("node=nobody", 404),
        ("device=x", 404),
    ):
        answer = await timed.user.get(f"/api/v1/telemetry/export?{query}")
        assert answer.status_code == status, query
        assert status == 404 or answer.json()["faults"], query
