"""What tasks used and would do with, asked over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.loops.rollups import RollupLoop
from tests.integration.test_main_path import desired, start_gang
from tests.service import Agent, ManualClock, Service, exited, rows, running, state


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    # Hours pass here without a report: that's no silence.
    patience = {"lease_seconds": 86_400, "unreachable_after_seconds": 3_600}
    async with running(tmp_path / "home", database_url, clock, **patience) as service:
        yield service


async def roll_up(service: Service, clock: ManualClock) -> None:
    clock.advance(120)
    loop = await service.take_over(RollupLoop(service.context, service.app.state.telemetry.roller))
    while await loop.tick() < 1:
        pass


async def use(service: Service, agent: Agent, allocation: str, minutes: int, **values: Any) -> None:
    """Two rows a minute for so many minutes up to now; ``cpu_cores`` becomes a counter."""
    count = 2 * minutes
    now = service.now_ms()
    times = [now - 30_000 * (count - row) for row in range(count)]
    cores = values.pop("cpu_cores", None)
    columns: dict[str, list[Any]] = {name: [value] * count for name, value in values.items()}
    if cores is not None:
        columns["cpu_seconds"] = [30.0 * cores * row for row in range(count)]
    await agent.measure(tasks=rows(times, of=[allocation] * count, **columns))


async def usage(service: Service, task: str) -> dict[str, Any]:
    answer = await service.user.get(f"/api/v1/tasks/{task}/usage")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def advice(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = await service.user.get("/api/v1/advice", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_usage_of_a_task_is_of_all_its_replicas(timed: Service, clock: ManualClock) -> None:
    agents = [await timed.join(f"n{number}", gpus=1) for number in (1, 2)]
    task, allocations = await start_gang(timed, *agents)
    clock.advance(20 * 60)
    for agent, allocation, percent in zip(agents, allocations, (20, 60), strict=True):
        await use(
            timed,
            agent,
            allocation["id"],
            15,
            gpu_utilization_percent=percent,
            gpu_utilization_peak_percent=percent + 30,
            memory_mib=1_000,
            memory_peak_mib=1_500,
            cpu_cores=2.5,
        )
    await roll_up(timed, clock)
    used = await usage(timed, task["id"])
    assert (used["replicas"], used["resolution_seconds"]) == (2, 60)
    assert used["measured_seconds"] == pytest.approx(15 * 60, abs=61)
    busy = used["gpu_utilization_percent"]
    assert (busy["peak"], busy["p50"], busy["p95"]) == (90, 40, 60)
    assert used["memory_mib"]["peak"] == 1_500
    assert used["cpu_cores"]["p50"] == pytest.approx(2.5)
    assert used["gpu_memory_mib"] is None, "not measured"


async def test_usage_is_of_the_last_attempt_alone(timed: Service, clock: ManualClock) -> None:
    agent = await timed.join("n1", gpus=1)
    task = await timed.submit(request={"gpus": 1}, max_restarts=1, restart_delay_seconds=0)
    before = await usage(timed, task["id"])
    assert (before["measured_seconds"], before["memory_mib"]) == (0, None)
    for megabytes in (9_000, 100):
        allocation = await desired(timed, agent, "run")
        await agent.report(state(allocation, "running", pid=1))
        clock.advance(20 * 60)
        await use(timed, agent, allocation["id"], 10, memory_mib=megabytes)
        await agent.report(exited(allocation, 1))
    await roll_up(timed, clock)
    used = await usage(timed, task["id"])
    assert (used["generation"], used["memory_mib"]["peak"]) == (2, 100)
    assert (await timed.task(task["id"]))["state"] == "failed"


async def test_advice_names_what_could_be_smaller_and_what_it_saves(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    task = await timed.submit(name="small", request={"gpus": 1, "memory_mib": 8_192})
    allocation = await desired(timed, agent, "run")
    await agent.report(state(allocation, "running", pid=1))
    clock.advance(2 * 3_600)
    light = {"gpu_utilization_percent": 10, "memory_mib": 500, "memory_peak_mib": 800}
    await use(timed, agent, allocation["id"], 118, **light)
    assert await advice(timed) == [], "nothing before minutes are made"
    await roll_up(timed, clock)
    [found] = await advice(timed)
    assert (found["task"], found["name"], found["state"]) == (task["id"], "small", "running")
    saving = {one["field"]: (one["suggested"], one["confidence"]) for one in found["advice"]}
    assert saving == {"gpu_milli": (150, "low"), "memory_mib": (960, "low")}
    assert found["gpu_hours"] == pytest.approx(0.85 * (2 * 3_600 + 120) / 3_600)
    ended = exited(allocation, at_ms=timed.now_ms())
    await agent.report(ended)
    assert len(await advice(timed)) == 1
    clock.advance(8 * 86_400)
    assert await advice(timed) == []
    assert len(await advice(timed, days=9)) == 1


async def test_what_is_no_question_is_a_4xx(timed: Service) -> None:
    for query in ({"days": 0}, {"days": "nan"}, {"limit": 0}, {"cursor": "!"}, {"more": 1}):
        answer = await timed.user.get("/api/v1/advice", params=query)
        assert answer.status_code == 422, query
    assert (await timed.user.get("/api/v1/tasks/t-none/usage")).status_code == 404
    assert (await timed.user.get("/api/v1/tasks/%00/usage")).status_code == 422
    assert (await timed.client(None).get("/api/v1/advice")).status_code == 401
