"""Measurements: stored as they come, read as the latest and as columns for a chart."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.metrics.service import drop_older
from tests.service import ManualClock, Service, running

START_MS = 1_767_225_600_000


def host_sample(at_seconds: float, busy: float, **more: Any) -> dict[str, Any]:
    return {
        "taken_at_ms": START_MS + round(at_seconds * 1000),
        "cpu_user_seconds": busy,
        "cpu_system_seconds": 0.0,
        "cpu_idle_seconds": at_seconds - busy,
        "memory_total_mib": 1000,
        "memory_available_mib": 400,
        **more,
    }


def device_sample(at_seconds: float, **more: Any) -> dict[str, Any]:
    return {"uuid": "SIM-n1-0", "taken_at_ms": START_MS + round(at_seconds * 1000), **more}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def test_latest_gives_gauges_as_they_are_and_counters_as_rates(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report(host=host_sample(0, 0.0, disk_read_bytes=1000, load_1m=0.5))
    clock.advance(10)
    await agent.report(
        host=host_sample(10, 2.5, disk_read_bytes=6000, load_1m=1.5),
        devices=[
            device_sample(10, utilization_percent=80, memory_used_mib=10, processes=[{"pid": 5}])
        ],
    )
    [node] = (await timed.user.get("/api/v1/telemetry/latest")).json()["items"]
    assert node["host"]["cpu_percent"] == pytest.approx(25.0)
    assert node["host"]["disk_read_bytes_per_second"] == pytest.approx(500.0)
    assert node["host"]["memory_used_mib"] == 600
    assert node["host"]["network_sent_bytes_per_second"] is None
    [device] = node["devices"]
    assert (device["utilization_percent"], device["processes"]) == (80, 1)
    assert device["simulated"] is True
    assert device["power_watts"] is None, "no such sensor is not zero watts"


async def test_a_silent_nodes_last_sample_is_not_shown_as_its_latest(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report(host=host_sample(0, 0.0), devices=[device_sample(0, memory_used_mib=1)])
    clock.advance(600)
    [node] = (await timed.user.get("/api/v1/telemetry/latest?node=n1")).json()["items"]
    assert node["host"] is None
    assert node["devices"] == []


async def test_a_series_has_columns_of_one_length_and_at_most_the_points_asked_for(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=1)
    for second in range(0, 100, 2):
        await agent.report(
            host=host_sample(second, second / 2, load_1m=float(second)),
            devices=[device_sample(second, utilization_percent=second)],
        )
    answer = await timed.user.get(
        "/api/v1/telemetry/nodes/n1",
        params={"start_ms": START_MS, "end_ms": START_MS + 100_000, "points": 10},
    )
    series = answer.json()
    columns = series["host"]["columns"]
    assert {len(column) for column in columns.values()} == {10}
    assert series["resolution_seconds"] == 10
    assert columns["load_1m"][0] == pytest.approx(4.0), "the mean of 0, 2, 4, 6, 8"
    assert columns["cpu_percent"][0] is None
    assert columns["cpu_percent"][1:] == pytest.approx([50.0] * 9)
    [device] = series["devices"]
    assert device["columns"]["utilization_percent"][-1] == pytest.approx(94.0)


async def test_the_same_sample_twice_is_stored_once(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    for _ in range(2):
        await agent.report(host=host_sample(0, 0.0), devices=[device_sample(0)])
    query = {"start_ms": START_MS, "end_ms": START_MS + 1}
    series = (await timed.user.get("/api/v1/telemetry/nodes/n1", params=query)).json()
    assert series["host"]["columns"]["time"] == [START_MS]


async def test_a_sample_of_a_device_that_the_node_has_not_is_dropped(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report(devices=[device_sample(0) | {"uuid": "GPU-of-another"}])
    [node] = (await timed.user.get("/api/v1/telemetry/latest")).json()["items"]
    assert node["devices"] == []


async def test_an_empty_or_turned_range_and_too_many_points_are_refused(timed: Service) -> None:
    await timed.join("n1")
    for query in ("start_ms=5&end_ms=4", "points=0", "points=2001", "start_ms=-1", "end_ms=x"):
        answer = await timed.user.get(f"/api/v1/telemetry/nodes/n1?{query}")
        assert answer.status_code == 422, query
        assert answer.json()["faults"]


async def test_old_samples_are_dropped_in_bounded_steps(timed: Service, clock: ManualClock) -> None:
    agent = await timed.join("n1", gpus=1)
    for second in range(10):
        await agent.report(host=host_sample(second, 0.0))
    async with timed.context.database.write() as session:
        assert await drop_older(session, START_MS + 8_000, rows=5) == 5
    async with timed.context.database.write() as session:
        assert await drop_older(session, START_MS + 8_000, rows=5) == 3
    query = {"start_ms": START_MS, "end_ms": START_MS + 10_000, "points": 100}
    series = (await timed.user.get("/api/v1/telemetry/nodes/n1", params=query)).json()
    assert series["host"]["columns"]["time"] == [START_MS + 8_000, START_MS + 9_000]
