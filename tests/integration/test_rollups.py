"""Minutes and hours say what the rows say, also of rows that come late; old ones are forgotten."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.db.samples import retention
from app.db.samples.rolling import Roller
from app.db.samples.store import Row, SampleStore, Subject, Writing
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, Resolution, table
from app.ranges import Ranges
from telemetry import columns
from telemetry.columns import Fold, fold

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_767_225_600_000
"""Midnight."""


@pytest.fixture
async def store(tmp_path: Path, database_url: str) -> AsyncIterator[SampleStore]:
    store = SampleStore(database_url)
    await store.open()
    yield store
    await store.close()


async def series_of(store: SampleStore, *keys: str) -> list[int]:
    subjects = [Subject(kind=Kind.TASK, key=key, node="n1") for key in keys]
    ids = await store.ensure_series(subjects)
    return [ids[subject] for subject in subjects]


def made_up(series: int, times: Sequence[int], seed: int) -> list[Row]:
    """Rows with gaps; counters only grow."""
    chance = random.Random(seed)
    rows = []
    for number, at_ms in enumerate(times):
        values: list[float | None] = []
        for column in columns.TASK:
            value: float | None = round(chance.random() * 100, 3)
            if column.fold is Fold.COUNTER:
                value = float(number)
            if column.whole and value is not None:
                value = int(value)
            values.append(None if chance.random() < 0.2 else value)
        rows.append((at_ms, series, *values))
    return rows


async def write(store: SampleStore, rows: list[Row], now_ms: int = START_MS) -> None:
    writing = Writing()
    writing.rows[Kind.TASK] = rows
    await store.write(writing, now_ms=now_ms)


async def read(store: SampleStore, resolution: Resolution) -> list[dict[str, Any]]:
    of = table(Kind.TASK, resolution)
    async with store.read() as session:
        found = await session.execute(select(of).order_by(of.c.series_id, of.c.taken_at_ms))
        return [dict(row) for row in found.mappings()]


def expected(rows: Sequence[Row], width_ms: int) -> list[dict[str, Any]]:
    """The same by :func:`telemetry.columns.fold` over all readings of each stretch."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row[1], row[0])):
        groups[row[1], row[0] // width_ms * width_ms].append(row)
    return [
        {
            "series_id": series,
            "taken_at_ms": start,
            "readings": len(group),
            **{
                column.name: fold(column.fold, [row[2 + index] for row in group])
                for index, column in enumerate(columns.TASK)
            },
        }
        for (series, start), group in sorted(groups.items())
    ]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert known(one) == pytest.approx(known(other), rel=tolerance)
        assert one.keys() - known(one).keys() == other.keys() - known(other).keys()


def known(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


async def roll_all(roller: Roller, until_ms: int) -> None:
    for resolution, stretches in ((MINUTE, 7), (HOUR, 1)):
        for kind in Kind:
            while await roller.roll_up(
                kind, resolution, closed_until_ms=until_ms, stretches=stretches
            ):
                pass


async def opened(store: SampleStore) -> Roller:
    roller = Roller(store)
    await roller.open()
    return roller


async def test_minutes_and_hours_are_the_folds_of_their_rows(store: SampleStore) -> None:
    ids = await series_of(store, "a-1", "a-2")
    times = range(START_MS, START_MS + 2 * HOUR_MS, 10_000)
    rows = [row for series in ids for row in made_up(series, times, series)]
    await write(store, rows)
    roller = await opened(store)
    await roll_all(roller, START_MS + 2 * HOUR_MS)
    same(await read(store, MINUTE), expected(rows, 60_000), 1e-5)
    # A mean of hours is that of minutes weighted by all their readings, also where some of these
    # lack the value: near the mean of the rows, not the same.
    hours, wanted = await read(store, HOUR), expected(rows, HOUR_MS)
    exact = [c.name for c in columns.TASK if c.fold is not Fold.MEAN]
    means = [c.name for c in columns.TASK if c.fold is Fold.MEAN]
    for one, other in zip(hours, wanted, strict=True):
        assert [one[name] for name in exact] == pytest.approx([other[name] for name in exact])
        assert [one[name] for name in means] == pytest.approx([other[n] for n in means], rel=0.05)
        assert one["readings"] == other["readings"]


async def test_a_minute_that_is_not_over_is_left_open(store: SampleStore) -> None:
    [series] = await series_of(store, "a-1")
    await write(store, made_up(series, range(START_MS, START_MS + 150_000, 10_000), 1))
    roller = await opened(store)
    await roll_all(roller, START_MS + 150_000)
    starts = [row["taken_at_ms"] for row in await read(store, MINUTE)]
    assert starts == [START_MS, START_MS + 60_000]
    assert await read(store, HOUR) == []


async def test_late_rows_change_their_minute_and_their_hour(store: SampleStore) -> None:
    ids = await series_of(store, "a-1", "a-2")
    times = range(START_MS, START_MS + HOUR_MS + 120_000, 10_000)
    rows = made_up(ids[0], times, 1)
    await write(store, rows)
    roller = await opened(store)
    await roll_all(roller, START_MS + HOUR_MS + 120_000)
    late = made_up(ids[1], range(START_MS + 30_000, START_MS + 600_000, 20_000), 2)
    await write(store, late, now_ms=START_MS + 5)
    assert await roller.roll_up_late(quiet_since_ms=START_MS + 4, limit=100) == 0, "not yet quiet"
    assert await roller.roll_up_late(quiet_since_ms=START_MS + 5, limit=100) == 10
    assert await roller.roll_up_late(quiet_since_ms=START_MS + 5, limit=100) == 0
    same(await read(store, MINUTE), expected(rows + late, 60_000), 1e-5)
    assert [row["readings"] for row in await read(store, HOUR)] == [360, len(late)]


async def test_a_restarted_roller_goes_on_where_the_last_one_ended(store: SampleStore) -> None:
    [series] = await series_of(store, "a-1")
    rows = made_up(series, range(START_MS, START_MS + 600_000, 10_000), 1)
    for part in (rows[:30], rows[30:]):
        await write(store, part)
        await roll_all(await opened(store), part[-1][0] + 10_000)
    same(await read(store, MINUTE), expected(rows, 60_000), 1e-5)


async def test_what_is_late_for_a_restarted_service_is_known_to_be(store: SampleStore) -> None:
    [series] = await series_of(store, "a-1")
    await write(store, made_up(series, range(START_MS, START_MS + 120_000, 10_000), 1))
    await roll_all(await opened(store), START_MS + 120_000)
    roller = await opened(store)
    await write(store, made_up(series, [START_MS + 1], 2))
    assert await roller.roll_up_late(quiet_since_ms=START_MS, limit=9) == 1
    assert [row["readings"] for row in await read(store, MINUTE)] == [7, 6]


@pytest.mark.parametrize("resolution", [RAW, MINUTE, HOUR])
async def test_old_rows_go_and_newer_ones_stay(store: SampleStore, resolution: Resolution) -> None:
    [series] = await series_of(store, "a-1")
    span = 40 * DAY_MS if resolution is HOUR else 3 * DAY_MS
    rows = made_up(series, range(START_MS, START_MS + span, HOUR_MS), 1)
    await write(store, rows)
    await roll_all(await opened(store), START_MS + span)
    # Partitions go whole: on their borders both databases forget the same.
    before_ms = START_MS + span - DAY_MS
    if resolution is HOUR:
        before_ms = before_ms // resolution.partition_ms * resolution.partition_ms
    steps = 0
    while await retention.drop_older(store, Kind.TASK, resolution, before_ms=before_ms, rows=10):
        steps += 1
        assert steps < 100
    await retention.drop_older(store, Kind.TASK, resolution, before_ms=before_ms, rows=10)
    left = [row["taken_at_ms"] for row in await read(store, resolution)]
    assert left == [row[0] for row in rows if row[0] >= before_ms]
    others = {RAW, MINUTE, HOUR} - {resolution}
    assert all([len(await read(store, other)) == len(rows) for other in others])


async def test_a_reader_in_the_way_makes_dropping_a_partition_wait_and_nobody_else(
    tmp_path: Path, postgres_database: str
) -> None:
    store = SampleStore(postgres_database)
    await store.open()
    try:
        [series] = await series_of(store, "a-1")
        await write(store, made_up(series, [START_MS], 1))
        async with store.read() as reader:
            await reader.execute(text("SELECT count(*) FROM task_samples"))
            drop = retention.drop_older(store, Kind.TASK, RAW, before_ms=START_MS + DAY_MS, rows=1)
            assert not await drop, "it's in use"
            await write(store, made_up(series, [START_MS + 1], 2))
        assert len(await read(store, RAW)) == 2
        await retention.drop_older(store, Kind.TASK, RAW, before_ms=START_MS + DAY_MS, rows=1)
        assert await read(store, RAW) == []
        await write(store, made_up(series, [START_MS + 2], 3))
        assert len(await read(store, RAW)) == 1, "a partition that's needed again is made again"
    finally:
        await store.close()


async def test_a_write_that_fails_leaves_nothing_behind(store: SampleStore) -> None:
    [series] = await series_of(store, "a-1")
    writing = Writing()
    writing.rows[Kind.TASK] = [*made_up(series, [START_MS], 1), (START_MS + 1, series, "x")]
    writing.received["n1", "epoch"] = Ranges([(1, 1)])
    with pytest.raises(Exception, match=r"(?i)row|binding|column|parameter|values"):
        await store.write(writing, now_ms=START_MS)
    assert await read(store, RAW) == []
    assert await store.received_batches() == {}
    await write(store, made_up(series, [START_MS], 1))
    async with store.read() as session:
        assert await session.scalar(select(func.count()).select_from(table(Kind.TASK, RAW))) == 1
