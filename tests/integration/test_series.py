"""Series over time: the same numbers whichever table they're read from."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from app.db.samples.store import Subject, Writing
from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, table
from app.metrics.live import INDEX
from app.metrics.telemetry import Telemetry
from tests.service import ManualClock, Service, running

HOUR_MS, DAY_MS, STEP_MS = 3_600_000, 86_400_000, 10_000


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def store(
    service: Service, subject: Subject, times_ms: list[int], **values: list[float | None]
) -> int:
    """Rows of one series, as if its agent had sent them; the id of the series."""
    telemetry: Telemetry = service.app.state.telemetry
    [of] = (await telemetry.store.ensure_series([subject])).values()
    made = []
    for number, at_ms in enumerate(times_ms):
        row: list[Any] = [None] * len(subject.kind.columns)
        for name, column in values.items():
            row[INDEX[subject.kind][name]] = column[number]
        made.append((at_ms, of, *row))
    writing = Writing()
    writing.rows[subject.kind] = made
    await telemetry.store.write(writing, now_ms=service.now_ms())
    return of


async def roll_up(service: Service, *, until_ms: int) -> None:
    telemetry: Telemetry = service.app.state.telemetry
    for resolution in (MINUTE, HOUR):
        for kind in Kind:
            while await telemetry.roller.roll_up(
                kind, resolution, closed_until_ms=until_ms, stretches=1_000
            ):
                pass


async def drop(service: Service, resolution: Any, kind: Kind = Kind.DEVICE) -> None:
    telemetry: Telemetry = service.app.state.telemetry
    async with telemetry.store.database.write() as session:
        await session.execute(delete(table(kind, resolution)))


def device(node: str = "n1", index: int = 0) -> Subject:
    return Subject(kind=Kind.DEVICE, key=f"SIM-{node}-{index}", node=node, model="A100")


async def chart(service: Service, path: str, **query: Any) -> dict[str, Any]:
    answer = await service.user.get(f"/api/v1/telemetry/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def of_device(service: Service, **query: Any) -> dict[str, list[Any]]:
    [found] = (await chart(service, "devices/SIM-n1-0", **query))["nodes"]
    assert len({len(column) for column in found["columns"].values()}) == 1
    return found["columns"]


async def test_gauges_are_folded_and_counters_are_rates_between_points(timed: Service) -> None:
    await timed.join("n1", gpus=1)
    now = timed.now_ms()
    start = now - 100_000
    times = [start + 2_000 * n for n in range(-5, 50)]
    seconds = [(at - start) / 1000 for at in times]
    host = Subject(kind=Kind.HOST, key="n1", node="n1")
    await store(
        timed,
        host,
        times,
        cpu_user_seconds=[20 + second / 2 for second in seconds],
        cpu_system_seconds=[0] * 55,
        cpu_idle_seconds=[20 + second / 2 for second in seconds],
        load_1m=seconds,
    )
    used = [round(second) + 10 for second in seconds]
    masks = [1 << (n % 3) for n in range(55)]
    await store(
        timed,
        device(),
        times,
        utilization_percent=used,
        utilization_peak_percent=used,
        memory_free_mib=used,
        throttle_reasons=masks,
        energy_joules=[1000 + 300 * second for second in seconds],
    )
    found = await chart(timed, "nodes/n1", start_ms=start, end_ms=now, points=10)
    assert found["resolution_seconds"] == 10
    columns = found["host"]["columns"]
    assert columns["time"] == [start + 10_000 * n for n in range(10)]
    assert columns["load_1m"][0] == pytest.approx(4.0), "the mean of 0, 2, 4, 6, 8"
    assert columns["cpu_percent"] == pytest.approx([50.0] * 10)
    assert set(columns["memory_total_mib"]) == {None}
    [of] = found["devices"]
    assert (of["uuid"], of["index"], of["simulated"]) == ("SIM-n1-0", 0, True)
    assert of["columns"]["utilization_percent"][0] == pytest.approx(14.0)
    assert of["columns"]["utilization_peak_percent"][0] == 18
    assert of["columns"]["memory_free_mib"][0] == 10
    assert of["columns"]["throttle_reasons"][0] == 0b111
    assert of["columns"]["energy_watts"] == pytest.approx([300.0] * 10)
    few = await of_device(timed, start_ms=start, end_ms=now, fields="energy_watts")
    assert set(few) == {"time", "energy_watts"}


async def test_a_counter_that_went_back_and_what_was_not_measured_are_unknown(
    timed: Service,
) -> None:
    now = timed.now_ms()
    times = [now - 50_000 + 10_000 * n for n in range(5)]
    await store(
        timed,
        device(),
        times,
        energy_joules=[100, 200, 50, None, 150],
        power_watts=[None, 0, 5, None, 7],
    )
    columns = await of_device(timed, start_ms=now - 50_000, end_ms=now, points=5)
    assert columns["energy_watts"] == [None, 10, None, None, None]
    assert columns["power_watts"] == [None, 0, 5, None, 7]
    assert columns["fan_percent"] == [None] * 5


async def test_hours_minutes_and_the_newest_rows_make_one_chart(timed: Service) -> None:
    """Two days in 48 points: hours first, then what isn't rolled up yet, and no seam between."""
    end = timed.now_ms() // HOUR_MS * HOUR_MS + 90_000
    start = end - 90_000 - 48 * HOUR_MS
    times = list(range(start, end, 60_000))
    values = [(at - start) / HOUR_MS for at in times]
    energy = [3_600.0 * value for value in values]
    watts = {"power_watts": values, "power_peak_watts": values}
    of = await store(timed, device(), times, **watts, energy_joules=energy)
    before = await of_device(timed, start_ms=start, end_ms=end, points=48)
    await roll_up(timed, until_ms=end - 60_000)
    after = await of_device(timed, start_ms=start, end_ms=end, points=48)
    assert after["time"] == before["time"]
    assert len(after["time"]) == 25
    for name in ("power_watts", "power_peak_watts", "energy_watts"):
        assert after[name][1:] == pytest.approx(before[name][1:], rel=1e-6), name
    assert after["energy_watts"] == [None, *[pytest.approx(1.0)] * 24], "and no jump at a seam"
    telemetry: Telemetry = timed.app.state.telemetry
    async with telemetry.store.database.write() as session:
        for resolution, until_ms in ((RAW, end - 90_000), (MINUTE, end - 90_000)):
            rows = table(Kind.DEVICE, resolution)
            await session.execute(
                delete(rows).where(rows.c.taken_at_ms < until_ms, rows.c.series_id == of)
            )
    assert await of_device(timed, start_ms=start, end_ms=end, points=48) == after, (
        "read from the hours, and only the newest part from what's finer"
    )


async def test_a_mean_over_hours_weighs_each_hour_by_its_readings(timed: Service) -> None:
    start = timed.now_ms() // DAY_MS * DAY_MS - DAY_MS
    times = [start + n * STEP_MS for n in range(90)] + [start + HOUR_MS + n * STEP_MS for n in (0,)]
    await store(timed, device(), times, power_watts=[10.0] * 90 + [101.0])
    await roll_up(timed, until_ms=start + 2 * HOUR_MS)
    await drop(timed, RAW)
    await drop(timed, MINUTE)
    columns = await of_device(timed, start_ms=start, end_ms=start + 2 * HOUR_MS, points=1)
    assert columns["power_watts"] == pytest.approx([(90 * 10 + 101) / 91])


async def test_what_is_gone_from_the_finer_tables_is_shown_from_the_coarser(
    timed: Service, clock: ManualClock
) -> None:
    start = timed.now_ms() // HOUR_MS * HOUR_MS
    times = [start + n * STEP_MS for n in range(2 * 360)]
    await store(timed, device(), times, power_watts=[float(n) for n in range(720)])
    await roll_up(timed, until_ms=start + 2 * HOUR_MS)
    asked = {"start_ms": start, "end_ms": start + 2 * HOUR_MS, "points": 720}
    assert len((await of_device(timed, **asked))["time"]) == 720
    clock.advance(3 * 86_400)
    assert len((await of_device(timed, **asked))["time"]) == 120
    clock.advance(30 * 86_400)
    assert len((await of_device(timed, **asked))["time"]) == 2


async def test_a_tasks_replicas_and_a_node_that_is_gone_can_still_be_looked_at(
    timed: Service,
) -> None:
    now = timed.now_ms()
    for replica in range(2):
        subject = Subject(
            kind=Kind.TASK,
            key=f"a-{replica}",
            node="gone",
            task="t-1",
            devices=2,
            gpu_milli=1000,
        )
        await store(timed, subject, [now - 5], gpu_memory_mib=[float(replica)])
    await store(timed, device("gone"), [now - 5], power_watts=[1.0])
    found = await chart(timed, "tasks/t-1", fields="gpu_memory_mib,cpu_cores")
    assert [one["allocation"] for one in found["replicas"]] == ["a-0", "a-1"]
    assert [one["columns"]["gpu_memory_mib"] for one in found["replicas"]] == [[0], [1]]
    assert found["replicas"][0]["devices"] == 2
    found = await chart(timed, "nodes/gone")
    assert found["host"]["columns"]["time"] == []
    assert [(of["index"], of["simulated"]) for of in found["devices"]] == [(None, None)]


async def test_a_task_that_was_never_measured_has_no_replicas_in_its_chart(
    timed: Service,
) -> None:
    task = await timed.submit(name="waits")
    found = await chart(timed, "tasks/waits")
    assert (found["task"], found["replicas"]) == (task["id"], [])
