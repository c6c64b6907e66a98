"""A gang that waits isn't starved by smaller tasks, and its room is used meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.test_preemption import start, wanted
from tests.service import ManualClock, Service, exited, running

GPU = {"gpus": 1}


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    patience = {"lease_seconds": 86_400, "unreachable_after_seconds": 3_600}
    async with running(tmp_path / "home", database_url, clock, **patience) as service:
        yield service


async def test_a_waiting_gang_gets_its_room_before_those_that_came_later(
    cluster: Service,
) -> None:
    agent = await cluster.join("n1", gpus=2)
    _, first = await start(cluster, agent, name="first", request=GPU)
    _, second = await start(cluster, agent, name="second", request=GPU)
    gang = await cluster.submit(name="gang", request={"gpus": 2})
    await cluster.until_waiting(gang["id"])
    late = await cluster.submit(name="late", request=GPU)
    await cluster.until_waiting(late["id"])
    await agent.report(exited(first, 0))

    async def told() -> dict[str, str] | None:
        why = (await cluster.user.get(f"/api/v1/tasks/{late['id']}/why")).json()
        texts = {reason["code"]: reason["text"] for reason in why["reasons"]}
        return texts if "held" in texts else None

    texts = await cluster.until(told, "the late task is told for whom room is held")
    assert "room is held for gang" in texts["held"]
    assert (await cluster.task(late["id"]))["state"] == "pending"
    await agent.report(exited(second, 0))
    await wanted(cluster, agent, gang, "run")


async def test_what_is_known_to_end_in_time_uses_the_room_that_is_held(cluster: Service) -> None:
    agent = await cluster.join("n1", gpus=2)
    await start(cluster, agent, name="long", request=GPU, duration_seconds=36_000)
    gang = await cluster.submit(name="gang", request={"gpus": 2})
    await cluster.until_waiting(gang["id"])
    unknown = await cluster.submit(name="unknown", request=GPU)
    await cluster.until_waiting(unknown["id"])
    quick = await cluster.submit(name="quick", request=GPU, duration_seconds=600)
    await wanted(cluster, agent, quick, "run")
    assert (await cluster.task(unknown["id"]))["state"] == "pending"
    plans = (await cluster.user.get("/api/v1/plans")).json()["items"]
    assert "backfill" in {plan["trigger"] for plan in plans}


async def test_who_is_more_urgent_than_the_gang_takes_its_room(cluster: Service) -> None:
    agent = await cluster.join("n1", gpus=2)
    await start(cluster, agent, name="long", request=GPU, preemptible=False)
    gang = await cluster.submit(name="gang", request={"gpus": 2})
    await cluster.until_waiting(gang["id"])
    urgent = await cluster.submit(name="urgent", request=GPU, priority=1)
    await wanted(cluster, agent, urgent, "run")
    plans = (await cluster.user.get("/api/v1/plans")).json()["items"]
    found = (await cluster.user.get(f"/api/v1/plans/{plans[0]['id']}")).json()["plan"]
    assert [one["task"] for one in found["placements"]].count(urgent["id"]) == 1
