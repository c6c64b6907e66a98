"""The latest of everything, and lists of the most and least: unknown is never zero."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.metrics.schemas import Latest
from tests.service import Agent, ManualClock, Service, rows, running, state


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def latest(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = await service.user.get("/api/v1/telemetry/latest", params=query)
    assert answer.status_code == 200, answer.text
    if not query:
        Latest.model_validate_json(answer.text)
    return answer.json()["items"]


async def running_task(service: Service, agent: Agent, **spec: Any) -> tuple[str, dict[str, Any]]:
    """A task that the agent runs: its id, and its allocation as desired."""
    task = await service.submit(**spec)
    await service.until_state(task["id"], "starting")
    [allocation] = await agent.desired()
    await agent.report(state(allocation, "running"))
    return task["id"], allocation


async def measure_each(
    service: Service,
    clock: ManualClock,
    agent: Agent,
    *,
    of: list[str],
    **parts: dict[str, list[float | None]],
) -> None:
    """Send one row after the other, 10 s between; ``parts`` have a value a row and key."""
    for turn in range(2):
        at = service.now_ms()
        form = {}
        for part, values in parts.items():
            keys = None if part == "host" else of
            width = 1 if keys is None else len(keys)
            now = {name: column[turn * width :][:width] for name, column in values.items()}
            form[part] = rows([at] * width, of=keys, **now)
        await agent.measure(**form)
        if turn == 0:
            clock.advance(10)


async def test_latest_gives_gauges_as_they_are_and_counters_as_rates(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    host = {
        "cpu_user_seconds": [0.0, 2.5],
        "cpu_system_seconds": [0.0, 0.0],
        "cpu_idle_seconds": [0.0, 7.5],
        "memory_total_mib": [1000, 1000],
        "memory_available_mib": [400, 400],
        "disk_read_bytes": [1000, 6000],
        "load_1m": [0.5, 1.5],
        "agent_cpu_seconds": [1.0, 1.1],
    }
    device = {
        "utilization_percent": [10, 80],
        "memory_used_mib": [10, 20],
        "memory_reserved_mib": [5, 6],
        "process_count": [1, 2],
        "foreign_process_count": [0, 1],
        "energy_joules": [1000, 4000],
        "throttle_reasons": [0, 0x44],
    }
    await measure_each(timed, clock, agent, host=host, devices=device, of=["SIM-n1-0"])
    [node] = await latest(timed)
    assert node["host"]["cpu_percent"] == pytest.approx(25.0)
    assert node["host"]["disk_read_bytes_per_second"] == pytest.approx(500.0)
    assert node["host"]["memory_used_mib"] == 600
    assert node["host"]["agent_cpu_cores"] == pytest.approx(0.01)
    assert node["host"]["network_sent_bytes_per_second"] is None
    [device] = node["devices"]
    assert (device["utilization_percent"], device["processes"]) == (80, 2)
    assert (device["memory_reserved_mib"], device["foreign_processes"]) == (6, 1)
    assert device["energy_watts"] == pytest.approx(300.0)
    assert device["throttle_reasons"] == ["power cap", "heat, by the hardware"]
    assert (device["index"], device["simulated"]) == (0, True)
    assert device["power_watts"] is None, "no such sensor is not zero watts"


async def test_disks_networks_and_the_clocks_offset_come_with_the_node(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1")
    clock.advance(3600)
    behind = timed.now_ms() - 60_000
    form = {
        "batches": [{"epoch": "e", "seq": 1, "host": rows([behind], load_1m=[1])}],
        "disks": [{"name": "sda", "read_bytes": 5, "written_bytes": 6}],
        "networks": [{"name": "eth0", "received_bytes": 7, "sent_bytes": 8}],
        "sent_at_ms": behind,
    }
    answer = await agent.http.post("/agent/v1/samples", json=agent.sample_form(**form))
    assert answer.status_code == 200, answer.text
    [node] = await latest(timed)
    assert node["host"]["clock_offset_ms"] == 60_000
    assert node["host"]["disks"] == [
        {"name": "sda", "read_bytes": 5, "written_bytes": 6, "busy_seconds": None}
    ]
    assert node["host"]["networks"][0]["sent_bytes"] == 8


async def test_a_tasks_replica_is_shown_on_its_node(timed: Service, clock: ManualClock) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await running_task(timed, agent, name="train", request={"gpus": 1})
    used = {"cpu_seconds": [1, 21], "gpu_memory_mib": [100, 200]}
    await measure_each(timed, clock, agent, tasks=used, of=[allocation["id"]])
    [node] = await latest(timed)
    [replica] = node["tasks"]
    assert (replica["task"], replica["name"], replica["replica"]) == (task, "train", 0)
    assert replica["cpu_cores"] == pytest.approx(2.0)
    assert (replica["gpu_memory_mib"], replica["memory_mib"]) == (200, None)


async def test_a_node_is_shown_anew_when_it_has_spoken_and_not_when_it_is_silent(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    for used in (1, 2):
        clock.advance(1)
        at = timed.now_ms()
        await agent.measure(devices=rows([at], of=["SIM-n1-0"], memory_used_mib=[used]))
        [node] = await latest(timed)
        assert node["devices"][0]["memory_used_mib"] == used
    await timed.join("n2", gpus=2)
    assert [node["node"] for node in await latest(timed)] == ["n1", "n2"]
    clock.advance(600)
    for node in await latest(timed, node="n1"):
        assert (node["host"], node["devices"]) == (None, [])


async def test_only_the_fields_asked_for_come(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    now = timed.now_ms()
    await agent.measure(
        host=rows([now], load_1m=[1]), devices=rows([now], of=["SIM-n1-0"], power_watts=[9])
    )
    [node] = await latest(timed, fields="power_watts, load_1m")
    assert node["host"] == {"taken_at_ms": now, "load_1m": 1}
    [device] = node["devices"]
    assert set(device) == {"uuid", "simulated", "taken_at_ms", "power_watts"}


async def test_a_device_of_another_node_is_not_shown_as_its_own(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.measure(devices=rows([timed.now_ms()], of=["GPU-of-another"]))
    [node] = await latest(timed)
    assert node["devices"] == []


async def test_top_has_the_most_or_the_least_and_leaves_out_what_is_unknown(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=3)
    keys = ["SIM-n1-0", "SIM-n1-1", "SIM-n1-2"]
    devices = {
        "power_watts": [0, 0, 0, 100, None, 300],
        "energy_joules": [0, 0, 0, 50, 20, None],
    }
    await measure_each(timed, clock, agent, host={"load_1m": [3, 4]}, devices=devices, of=keys)

    async def top(**query: Any) -> list[tuple[str, float]]:
        answer = await timed.user.get("/api/v1/telemetry/top", params=query)
        assert answer.status_code == 200, answer.text
        return [(item["device"] or item["node"], item["value"]) for item in answer.json()["items"]]

    assert await top(metric="power_watts") == [("SIM-n1-2", 300), ("SIM-n1-0", 100)]
    assert await top(metric="power_watts", order="least", n=1) == [("SIM-n1-0", 100)]
    assert await top(metric="energy_watts") == [("SIM-n1-0", 5), ("SIM-n1-1", 2)]
    assert await top(metric="load_1m", of="node") == [("n1", 4)]
    assert await top(metric="gpu_memory_mib", of="task") == []


async def test_what_cannot_be_asked_is_refused_with_its_faults(timed: Service) -> None:
    await timed.join("n1")
    for path, status in (
        ("latest?fields=no_such_field", 422),
        ("latest?nodes=n1", 422),
        ("latest?node=n2", 404),
        ("latest?node=%00", 422),
        ("top?metric=no_such_metric", 422),
        ("top?metric=power_watts,energy_watts", 422),
        ("top?metric=power_watts&of=host", 422),
        ("top?metric=power_watts&n=0", 422),
        ("top", 422),
        ("nodes/n2", 404),
        ("nodes/n1?start_ms=5&end_ms=4", 422),
        ("nodes/n1?start_ms=5&end_ms=5", 422),
        ("nodes/n1?points=0", 422),
        ("nodes/n1?points=2001", 422),
        ("nodes/n1?start_ms=-1", 422),
        ("nodes/n1?end_ms=x", 422),
        ("nodes/n1?end_ms=99999999999999999999", 422),
        ("nodes/n1?fields=cpu_seconds", 422),
        ("nodes/%00", 422),
        ("devices/GPU-unknown", 404),
        ("devices/%00", 422),
        ("tasks/t-unknown", 404),
        ("tasks/%00", 422),
    ):
        answer = await timed.user.get(f"/api/v1/telemetry/{path}")
        assert answer.status_code == status, (path, answer.text)
        if status == 422:
            assert answer.json()["faults"], path
