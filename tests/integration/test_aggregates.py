"""What queues, tasks, models and nodes held and used, from hours, minutes and raw rows."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.db.samples.store import Subject
from app.db.samples.tables import MINUTE, RAW, Kind
from tests.integration.test_series import HOUR_MS, STEP_MS, drop, roll_up, store
from tests.service import ManualClock, Service, running


@pytest.fixture
async def timed(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, ManualClock()) as service:
        yield service


async def sums(service: Service, **query: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The items by name, and the whole answer."""
    answer = await service.user.get("/api/v1/telemetry/aggregate", params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return {item[query["by"]]: item for item in found["items"]}, found


def replica(number: int, *, queue: str, devices: int = 1, gpu_milli: int = 1000) -> Subject:
    return Subject(
        kind=Kind.TASK, key=f"a-{number}", node="n1", queue=queue, task=f"t-{number}",
        devices=devices, gpu_milli=gpu_milli,
    )  # fmt: skip


def every(start_ms: int, count: int) -> list[int]:
    return [start_ms + n * STEP_MS for n in range(count)]


async def hosts(service: Service, start_ms: int, count: int) -> None:
    times = every(start_ms, count)
    await store(service, Subject(kind=Kind.HOST, key="n1", node="n1"), times, load_1m=[1.0] * count)


async def test_gpu_hours_are_shares_of_devices_by_the_time_measured(timed: Service) -> None:
    end = timed.now_ms() // HOUR_MS * HOUR_MS
    start = end - 4 * HOUR_MS
    await hosts(timed, start, 4 * 360)
    for number, queue, devices, gpu_milli, count, used in (
        (1, "red", 2, 1000, 4 * 360, 50.0),
        (2, "red", 1, 500, 360, 0.0),
        (3, "blue", 1, 1000, 180, None),
        (4, "blue", 0, 0, 360, None),
    ):
        subject = replica(number, queue=queue, devices=devices, gpu_milli=gpu_milli)
        peak = [100.0 * number] * count
        await store(
            timed,
            subject,
            every(start, count),
            gpu_utilization_percent=[used] * count,
            gpu_memory_peak_mib=peak,
        )
    await roll_up(timed, until_ms=end)
    for query, width in (
        ({"start_ms": start, "end_ms": end}, 3600),
        ({"start_ms": start, "end_ms": start + HOUR_MS}, 60),
    ):
        items, found = await sums(timed, by="queue", **query)
        hours = (query["end_ms"] - query["start_ms"]) / HOUR_MS
        assert found["resolution_seconds"] == width
        red, blue = items["red"], items["blue"]
        assert red["gpu_hours"] == pytest.approx(2 * hours + 0.5)
        assert red["gpu_utilization_percent"] == pytest.approx(100 * hours / (2 * hours + 0.5))
        assert red["gpu_hours_unused"] == pytest.approx(hours + 0.5)
        assert red["gpu_memory_peak_mib"] == 200
        assert blue["gpu_hours"] == pytest.approx(0.5)
        assert blue["replica_hours"] == pytest.approx(1.5)
        assert blue["gpu_hours_measured"] == 0
        assert blue["gpu_hours_unused"] is None, "what wasn't measured isn't idle"
    items, _ = await sums(timed, by="task", start_ms=start, end_ms=end)
    assert items["t-2"]["gpu_hours"] == pytest.approx(0.5)
    assert set(items) == {"t-1", "t-2", "t-3", "t-4"}


async def test_energy_is_of_counters_and_a_reset_takes_nothing_back(timed: Service) -> None:
    end = timed.now_ms() // HOUR_MS * HOUR_MS
    start = end - 3 * HOUR_MS
    await hosts(timed, start - 60_000, 3 * 360 + 6)
    for index, used in ((0, 80.0), (1, 0.0)):
        subject = Subject(kind=Kind.DEVICE, key=f"GPU-{index}", node="n1", model="H100")
        times = every(start - 60_000, 3 * 360 + 6)
        energy = [500.0 * (n + 1) * STEP_MS / 1000 for n in range(len(times))]
        if index == 1:  # the driver was loaded anew after two hours
            energy = [e - energy[2 * 360] if n > 2 * 360 else e for n, e in enumerate(energy)]
        await store(
            timed,
            subject,
            times,
            utilization_percent=[used] * len(times),
            utilization_peak_percent=[used] * len(times),
            power_watts=[500.0] * len(times),
            energy_joules=energy,
        )
    await roll_up(timed, until_ms=end)
    items, found = await sums(timed, by="model", start_ms=start, end_ms=end)
    assert found["resolution_seconds"] == 3600
    h100 = items["H100"]
    assert h100["device_hours"] == pytest.approx(6)
    assert h100["utilization_percent"] == pytest.approx(40)
    assert h100["idle_percent"] == pytest.approx(50)
    assert h100["power_watts"] == pytest.approx(500)
    assert h100["energy_kwh"] == pytest.approx(2.5, rel=0.01), "the hour of the reset is unknown"
    items, _ = await sums(timed, by="node", start_ms=start, end_ms=start + HOUR_MS)
    assert items["n1"]["energy_kwh"] == pytest.approx(1.0, rel=0.01)


async def test_the_newest_minutes_come_from_rows_as_they_came(timed: Service) -> None:
    now = timed.now_ms()
    start = now // 60_000 * 60_000 - 600_000
    await hosts(timed, start, 60)
    await store(
        timed, replica(1, queue="red"), every(start, 60), gpu_utilization_percent=[10.0] * 60
    )
    before, _ = await sums(timed, by="queue", start_ms=start, end_ms=now)
    await roll_up(timed, until_ms=now - 300_000)
    after, found = await sums(timed, by="queue", start_ms=start, end_ms=now)
    assert after == before
    assert after["red"]["gpu_hours"] == pytest.approx(1 / 6)
    assert found["start_ms"] == start
    for resolution in (RAW, MINUTE):
        await drop(timed, resolution, Kind.TASK)
    assert await sums(timed, by="queue", start_ms=start, end_ms=now) == ({}, {**found, "items": []})


async def test_an_hour_in_which_nothing_could_be_measured_to_its_end_counts_in_part(
    timed: Service,
) -> None:
    end = timed.now_ms() // HOUR_MS * HOUR_MS
    start = end - 4 * HOUR_MS
    times = every(start, 4 * 360)
    times = times[: 360 + 90] + times[2 * 360 :]  # all was down for 45 minutes
    await store(
        timed, Subject(kind=Kind.HOST, key="n1", node="n1"), times, load_1m=[1.0] * len(times)
    )
    await store(timed, replica(1, queue="red"), times, gpu_utilization_percent=[1.0] * len(times))
    await roll_up(timed, until_ms=end)
    items, _ = await sums(timed, by="queue", start_ms=start, end_ms=end)
    assert items["red"]["gpu_hours"] == pytest.approx(3.25)


async def test_a_stretch_counts_by_what_hosts_measured_around_it(timed: Service) -> None:
    """A service that asked for a row every 10 s, and later for one every 20 s."""
    end = timed.now_ms() // HOUR_MS * HOUR_MS
    start = end - 6 * HOUR_MS
    times = every(start, 3 * 360) + every(start + 3 * HOUR_MS, 3 * 360)[::2]
    await store(
        timed, Subject(kind=Kind.HOST, key="n1", node="n1"), times, load_1m=[1.0] * len(times)
    )
    await store(timed, replica(1, queue="red"), times, gpu_utilization_percent=[1.0] * len(times))
    await roll_up(timed, until_ms=end)
    items, _ = await sums(timed, by="queue", start_ms=start, end_ms=end)
    assert items["red"]["gpu_hours"] == pytest.approx(5.5), "the hour of the change counts half"


async def test_what_cannot_be_summed_is_refused(timed: Service) -> None:
    for query in ("by=device", "", "by=queue&start_ms=5&end_ms=5", "by=queue&points=4", "by=%00"):
        answer = await timed.user.get(f"/api/v1/telemetry/aggregate?{query}")
        assert answer.status_code == 422, query
        assert answer.json()["faults"]
