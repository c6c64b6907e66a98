"""Shares of queues, from the outside: who gets room and who gives it back, and is told why."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app import signals
from app.loops.usage import UsageLoop
from tests.integration.test_preemption import pass_time, start, wanted
from tests.service import Agent, ManualClock, Service, exited, running

HOUR = 3_600
GPU = {"gpus": 1}


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    patience = {"lease_seconds": 86_400, "unreachable_after_seconds": HOUR}
    async with running(tmp_path / "home", database_url, clock, **patience) as service:
        yield service


async def queue(service: Service, name: str, **form: Any) -> None:
    answer = await service.user.post("/api/v1/queues", json={"name": name, **form})
    assert answer.status_code == 201, answer.text


async def book(service: Service, name: str, **form: Any) -> None:
    answer = await service.user.post("/api/v1/bookings", json={"name": name, **form})
    assert answer.status_code == 201, answer.text


async def start_many(
    service: Service, agent: Agent, count: int, **spec: Any
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [
        await start(service, agent, name=f"{spec['queue']}-{n}", request=GPU, **spec)
        for n in range(count)
    ]


async def why(service: Service, task: dict[str, Any]) -> dict[str, str]:
    """Code -> text."""
    found = await service.until_waiting(task["id"])
    return {reason["code"]: reason["text"] for reason in found["reasons"]}


async def test_a_guaranteed_queue_reclaims_from_one_that_borrows_and_both_are_told(
    cluster: Service, clock: ManualClock
) -> None:
    await queue(cluster, "prod", guaranteed={"gpu_milli": 1000})
    await queue(cluster, "research")
    agent = await cluster.join("n1", gpus=2)
    held = await start_many(cluster, agent, 2, queue="research", priority=100)
    await pass_time(clock, 600, agent)
    urgent = await cluster.submit(name="urgent", queue="prod", request=GPU)
    gone = [await _reclaimed(cluster, agent, held)]
    assert "queue prod takes back what is its own" in gone[0]["reason"]
    allocation = next(a for t, a in held if t["id"] == gone[0]["id"])
    await agent.report(exited(allocation, None, stopped=True, cause="preempted"))
    assert (await wanted(cluster, agent, urgent, "run"))["generation"] == 1
    assert "over_share" in await why(cluster, gone[0])


async def _reclaimed(service: Service, agent: Agent, held: list[Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        tasks = [await service.task(task["id"]) for task, _ in held]
        return next((task for task in tasks if task["state"] == "stopping"), None)

    return await service.until(look, "one of them is told to stop")


async def test_a_high_priority_takes_nothing_from_another_queues_share(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=2)
    [(mine, _)] = await start_many(cluster, agent, 1, queue="meek")
    [(_, loud)] = await start_many(cluster, agent, 1, queue="loud")
    await pass_time(clock, 600, agent)
    grabbing = await cluster.submit(name="more", queue="loud", priority=1_000_000, request=GPU)
    # In its own queue it comes first: the queue's other task gives way.
    stopping = await wanted(cluster, agent, {"id": loud["task"], "name": "loud-0"}, "stop")
    await agent.report(exited(stopping, None, stopped=True, cause="preempted"))
    await wanted(cluster, agent, grabbing, "run")
    assert (await cluster.task(mine["id"]))["state"] == "running"


async def test_a_task_runs_for_its_queues_minimum_before_it_gives_way(
    cluster: Service, clock: ManualClock
) -> None:
    await queue(cluster, "prod", guaranteed={"gpu_milli": 1000})
    await queue(cluster, "research", min_runtime_seconds=7_200)
    agent = await cluster.join("n1", gpus=1)
    [(victim, allocation)] = await start_many(cluster, agent, 1, queue="research")
    await pass_time(clock, HOUR, agent)
    urgent = await cluster.submit(name="urgent", queue="prod", request=GPU)
    await cluster.until_waiting(urgent["id"])
    assert (await cluster.task(victim["id"]))["state"] == "running"
    await pass_time(clock, HOUR, agent)
    cluster.context.signals.notify(signals.PLANNING)
    await wanted(cluster, agent, victim, "stop")
    await agent.report(exited(allocation, None, stopped=True, cause="preempted"))
    await wanted(cluster, agent, urgent, "run")


async def test_a_limit_on_a_model_leaves_the_others_to_the_queue(cluster: Service) -> None:
    await queue(cluster, "research", limit={"gpu_milli:H100": 1000})
    new = await cluster.join("new", gpus=2, model="H100")
    old = await cluster.join("old", gpus=1, model="A100")
    tasks = [await cluster.submit(name=f"t{n}", queue="research", request=GPU) for n in range(3)]
    waiting = await _who_waits(cluster, tasks)
    assert "at its limit of H100" in (await why(cluster, waiting))["queue_limit"]
    held = await new.desired(), await old.desired()
    assert [len(allocations) for allocations in held] == [1, 1]


async def _who_waits(service: Service, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        now = [await service.task(task["id"]) for task in tasks]
        waiting = [task for task in now if task["state"] == "pending"]
        return waiting[0] if len(waiting) == 1 else None

    return await service.until(look, "one task waits")


async def test_a_booked_node_takes_nobody_who_would_be_there_in_the_window(
    cluster: Service, clock: ManualClock
) -> None:
    await queue(cluster, "course")
    booked = await cluster.join("booked", gpus=3)
    start_at = cluster.context.clock.now() + timedelta(seconds=2 * HOUR)
    await book(
        cluster, "exam", nodes=["booked"], queue="course",
        starts_at=start_at.isoformat(), duration_seconds=HOUR,
    )  # fmt: skip
    short = await cluster.submit(name="short", request=GPU, duration_seconds=HOUR)
    leaves = await cluster.submit(name="leaves", request=GPU)
    pinned = await cluster.submit(name="pinned", request=GPU, preemptible=False)
    await wanted(cluster, booked, short, "run")
    await wanted(cluster, booked, leaves, "run")
    told = await why(cluster, pinned)
    assert told["no_matching_node"] == "1 node is booked (exam) before it's sure to be gone"
    own = await cluster.submit(name="own", queue="course", request=GPU, preemptible=False)
    await wanted(cluster, booked, own, "run")


async def test_who_has_held_devices_lately_waits_for_who_has_not(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=1)
    [(_, allocation)] = await start_many(cluster, agent, 1, queue="idler")
    await pass_time(clock, HOUR, agent)
    await (await cluster.take_over(UsageLoop(cluster.context))).tick()
    again = await cluster.submit(name="again", queue="idler", request=GPU)
    worker = await cluster.submit(name="worker", queue="worker", request=GPU)
    await agent.report(exited(allocation, 0))
    await wanted(cluster, agent, worker, "run")
    assert (await cluster.task(again["id"]))["state"] == "pending"
