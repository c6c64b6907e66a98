"""When tasks start, over HTTP; and what if, which changes nothing."""

import math
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.service import ManualClock, Service, running

GPU = {"request": {"gpus": 1}}


@pytest.fixture
async def calm(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Service]:
    """Time stands still: what is said of it is exact."""
    async with running(tmp_path / "home", None, clock, watch_interval_seconds=3_600) as service:
        yield service


async def eta(service: Service, task: str) -> dict[str, Any]:
    answer = await service.user.get(f"/api/v1/tasks/{task}/eta")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def simulate(service: Service, **changes: Any) -> dict[str, Any]:
    answer = await service.user.post("/api/v1/simulate", json=changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def two_tasks(service: Service) -> tuple[str, str]:
    """One GPU: the first task gets it for at most an hour, the second waits."""
    await service.join("n1", gpus=1)
    first = await service.submit(name="first", duration_seconds=3_600, **GPU)
    await service.until_state(first["id"], "starting")
    second = await service.submit(name="second", duration_seconds=600, **GPU)
    await service.until_waiting(second["id"])
    return first["id"], second["id"]


async def test_a_task_that_waits_is_told_when_it_starts_and_for_whom_it_waits(
    calm: Service,
) -> None:
    first, second = await two_tasks(calm)
    told = await eta(calm, "second")
    assert told["task"] == second
    assert 0 < told["seconds_p50"] <= told["seconds_p90"] <= 3_600
    assert told["start_p50"] <= told["start_p90"]
    assert told["nodes"] == ["n1"]
    assert told["waits_for"] == [first]
    assert told["unknown"] == []
    page = (await calm.user.get("/api/v1/eta")).json()
    assert [item["task"] for item in page["items"]] == [second]
    assert page["next_cursor"] is None


async def test_a_task_that_has_started_is_told_no_start(calm: Service) -> None:
    await two_tasks(calm)
    told = await eta(calm, "first")
    assert (told["start_p50"], told["why"]) == (None, "it has started")


async def test_where_nobody_knows_how_long_somebody_runs_no_time_is_told(calm: Service) -> None:
    await calm.join("n1", gpus=1)
    first = await calm.submit(name="first", **GPU)
    await calm.until_state(first["id"], "starting")
    second = await calm.submit(name="second", **GPU)
    await calm.until_waiting(second["id"])
    told = await eta(calm, "second")
    assert (told["start_p50"], told["start_p90"], told["never_ratio"]) == (None, None, 1.0)
    assert first["id"] in told["unknown"]


async def test_the_list_of_starts_goes_on_page_by_page_in_their_order(calm: Service) -> None:
    await two_tasks(calm)
    third = await calm.submit(name="third", duration_seconds=60, **GPU)
    await calm.until_waiting(third["id"])
    await eta(calm, "third")
    seen, cursor = [], None
    while True:
        query = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await calm.user.get("/api/v1/eta", params=query)).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["second", "third"]


async def test_what_if_says_when_new_tasks_would_start_and_who_would_start_later(
    calm: Service,
) -> None:
    _, second = await two_tasks(calm)
    spec = {"argv": ["true"], "name": "urgent", "priority": 9, "duration_seconds": 7_200, **GPU}
    told = await simulate(calm, tasks=[spec], prices={"A100": 3.6})
    new = told["tasks"][0]
    assert (new["task"], new["name"], new["nodes"]) == ("new-0", "urgent", ["n1"])
    assert new["cost"] == pytest.approx(told["cost"])
    assert 0 < new["cost"] <= 7.2
    assert [one["task"] for one in told["affected"]] == [second]
    shift = told["affected"][0]
    assert shift["after"]["seconds_p50"] > shift["before"]["seconds_p50"]
    assert told["before"]["capacity_gpu_milli"] == told["after"]["capacity_gpu_milli"] == 1_000
    assert told["before"]["use"][0] == {"seconds": 0.0, "gpu_milli": 1_000}


async def test_what_if_adds_and_removes_nodes_and_cancels(calm: Service) -> None:
    first, second = await two_tasks(calm)
    more = await simulate(calm, add_nodes=[{"like": "n1", "count": 2}])
    assert more["affected"][0]["after"]["seconds_p50"] == 0.0
    assert more["after"]["capacity_gpu_milli"] == 3_000
    other = await simulate(calm, add_nodes=[{"node": {"name": "n9", "gpus": 1}}])
    assert other["affected"][0]["after"]["seconds_p50"] == 0.0
    none = await simulate(calm, remove_nodes=["n1"])
    assert none["after"]["capacity_gpu_milli"] == 0
    assert {one["task"] for one in none["affected"]} == {first, second}
    ended = await simulate(calm, cancel=[first])
    assert ended["affected"][0]["after"]["seconds_p50"] == 0.0
    limited = await simulate(calm, queues=[{"name": "default", "limit": {"gpus": 0}}])
    assert limited["affected"][0]["after"]["seconds_p50"] is None


async def test_what_if_changes_no_row(service: Service) -> None:
    await two_tasks(service)

    async def rows() -> dict[str, list[Any]]:
        async with service.context.database.read() as session:
            return {
                table: [tuple(row) for row in await session.execute(text(f"select * from {table}"))]
                for table in ("nodes", "devices", "tasks", "allocations", "queues", "plans")
            }

    before = await rows()
    await simulate(
        service,
        tasks=[{"argv": ["true"], **GPU}],
        add_nodes=[{"like": "n1", "count": 3}],
        remove_nodes=["n1"],
        queues=[{"name": "default", "weight": 5}, {"name": "new"}],
    )
    assert await rows() == before


async def test_every_fault_of_the_changes_is_named_at_once(calm: Service) -> None:
    await calm.join("n1", gpus=1)
    answer = await calm.user.post(
        "/api/v1/simulate",
        json={
            "tasks": [{"argv": ["true"], "separate_from": ["t-none"], "replicas": 500, **GPU}],
            "remove_nodes": ["gone"],
            "cancel": ["t-none"],
            "queues": [{"name": "q", "parent": "none", "limit": {"colour": 1}}, {"name": "q"}],
        },
    )
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == [
        "cancel[0]",
        "remove_nodes[0]",
        "queues[0].parent",
        "queues[0].limit.colour",
        "queues[1].name",
        "tasks[0].separate_from[0]",
        "tasks[0].replicas",
    ]


async def test_changes_that_make_no_sense_are_a_4xx_that_says_why(calm: Service) -> None:
    for body in (
        '{"prices": {"A100": NaN}}',
        '{"prices": {"A100": -1}}',
        '{"add_nodes": [{}]}',
        '{"add_nodes": [{"like": "n1", "node": {"name": "n2"}}]}',
        '{"add_nodes": [{"like": "nobody"}]}',
        '{"add_nodes": [{"like": "n1", "count": 1000000}]}',
        '{"tasks": [{}]}',
        '{"more": 1}',
        '{"queues": [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]}',
        "[]",
    ):
        answer = await calm.user.post("/api/v1/simulate", content=body)
        assert answer.status_code in {400, 422}, body
        assert answer.status_code == 400 or answer.json()["faults"], body


async def test_an_empty_cluster_and_no_changes_are_no_fault(calm: Service) -> None:
    told = await simulate(calm)
    assert (told["tasks"], told["affected"], told["cost"]) == ([], [], None)
    assert math.isclose(told["after"]["capacity_gpu_milli"], 0)
    assert (await calm.user.get("/api/v1/tasks/none/eta")).status_code == 404


async def test_a_task_that_would_not_end_before_a_booking_starts_after_it(calm: Service) -> None:
    await calm.join("n1", gpus=1)
    starts_at = calm.context.clock.now() + timedelta(seconds=300)
    booking = {
        "name": "repair",
        "nodes": ["n1"],
        "starts_at": starts_at.isoformat(),
        "duration_seconds": 700,
    }
    answer = await calm.user.post("/api/v1/bookings", json=booking)
    assert answer.status_code == 201, answer.text
    long = await calm.submit(name="long", duration_seconds=600, **GPU)
    await calm.until_waiting(long["id"])
    told = await eta(calm, "long")
    assert told["seconds_p50"] == told["seconds_p90"] == 1_000
    assert told["why"] == "waits for a booking to end"
