"""Queues over HTTP: what may be said of them, and how they stand."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.loops.usage import UsageLoop
from tests.integration.test_main_path import desired
from tests.integration.test_node_life import event_messages, runs
from tests.integration.test_prometheus import scrape
from tests.service import ManualClock, Service, exited, running, state

URL = "/api/v1/queues"
WEEK = 7 * 86_400
PATIENT = {"lease_seconds": 86_400, "watch_interval_seconds": 3_600}


async def create(service: Service, name: str, **form: Any) -> dict[str, Any]:
    answer = await service.user.post(URL, json={"name": name, **form})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def change(service: Service, name: str, **form: Any) -> httpx2.Response:
    return await service.user.patch(f"{URL}/{name}", json=form)


async def show(service: Service, name: str) -> dict[str, Any]:
    answer = await service.user.get(f"{URL}/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(service: Service, limit: int = 100) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        answer = await service.user.get(URL, params=query)
        assert answer.status_code == 200, answer.text
        seen += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            return seen
        query["cursor"] = answer.json()["next_cursor"]


def paths(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [fault["path"] for fault in answer.json()["faults"]]


async def test_a_queue_is_created_shown_changed_and_removed(service: Service) -> None:
    await create(service, "ml")
    made = await create(
        service,
        "nlp",
        parent="ml",
        weight=3,
        guaranteed={"gpu_milli": 2000, "gpu_milli:H100": 1000},
        limit={"gpu_milli": 4000, "cpu_milli": 8000},
        min_runtime_seconds=600,
        comment="text",
    )
    assert made["notes"] == []
    assert {**await show(service, "nlp"), "notes": []} == made
    assert (made["parent"], made["depth"], made["implicit"]) == ("ml", 1, False)
    answer = await change(
        service,
        "nlp",
        parent=None,
        guaranteed={"gpu_milli:H100": None, "cpu_milli": 1},
        min_runtime_seconds=None,
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["parent"], changed["weight"], changed["comment"]) == (None, 3, "text")
    assert changed["guaranteed"] == {"gpu_milli": 2000, "cpu_milli": 1}
    assert changed["limit"] == {"gpu_milli": 4000, "cpu_milli": 8000}
    assert changed["min_runtime_seconds"] is None
    assert (await service.user.delete(f"{URL}/nlp")).status_code == 204
    assert (await service.user.delete(f"{URL}/nlp")).status_code == 404
    assert (await change(service, "nlp")).status_code == 404
    assert [one["name"] for one in await listed(service)] == ["ml"]
    assert len(await event_messages(service, "queue_created")) == 2
    assert len(await event_messages(service, "queue_changed")) == 1
    assert len(await event_messages(service, "queue_removed")) == 1


async def test_the_same_request_twice_is_one_queue_and_another_of_its_name_a_conflict(
    service: Service,
) -> None:
    form = {"name": "ml", "guaranteed": {"gpus": 2, "cpu_milli": 3}}
    answers = await asyncio.gather(*(service.user.post(URL, json=form) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len(await event_messages(service, "queue_created")) == 1
    other = await service.user.post(URL, json={"name": "ml"})
    assert other.status_code == 409
    assert "stowplan queue set" in other.json()["detail"]


async def test_every_fault_is_named_and_nothing_is_stored(sqlite_service: Service) -> None:
    service = sqlite_service
    answer = await service.user.post(
        URL, json={"name": "q", "parent": "none", "guaranteed": {"gpu": 1}, "limit": {"tpu": 0}}
    )
    assert paths(answer) == ["guaranteed.gpu", "limit.tpu", "parent"]
    form = '{"name": "q", "weight": -1, "guaranteed": {"gpus": 1.5, "cpu_milli": NaN}, "x": 1}'
    answer = await service.user.post(URL, content=form)
    assert answer.status_code in {400, 422}
    bad = {"name": "q/r", "weight": True, "guaranteed": {"gpus": -1, "": 1}, "x": 1}
    answer = await service.user.post(URL, json=bad)
    assert len(paths(answer)) == 5
    assert await listed(service) == []
    await create(service, "a", guaranteed={"gpus": 2})
    await create(service, "b", parent="a", guaranteed={"gpus": 2})
    assert paths(await change(service, "a", parent="b", guaranteed={"gpus": 1})) == ["parent"]
    assert paths(await change(service, "a", guaranteed={"gpus": 1})) == ["guaranteed.gpus"]
    assert paths(await change(service, "a", weight=None)) == ["weight"]
    assert (await show(service, "a"))["guaranteed"] == {"gpus": 2}


async def test_two_changes_at_once_never_make_a_ring(service: Service) -> None:
    for name in "abcd":
        await create(service, name)
    answers = await asyncio.gather(
        *(change(service, one, parent=other) for one, other in ("ab", "bc", "cd", "da"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 422]
    assert sorted(one["depth"] for one in await listed(service)) == [0, 1, 2, 3]


async def test_the_list_is_the_tree_page_by_page(sqlite_service: Service) -> None:
    service = sqlite_service
    for name, parent in (("b", None), ("a", None), ("z", "a"), ("y", "a"), ("x", "z"), ("c", "b")):
        await create(service, name, parent=parent)
    await service.submit(queue="anybody", request={"gpus": 1})
    names = ["a", "y", "z", "x", "anybody", "b", "c"]
    for limit in (1, 2, 3, 100):
        assert [one["name"] for one in await listed(service, limit)] == names
    assert [one["implicit"] for one in await listed(service)].index(True) == 4
    for cursor in ("!", "AAAA"):
        answer = await service.user.get(URL, params={"cursor": cursor})
        assert answer.status_code in {200, 422}
    assert (await service.client(None).get(URL)).status_code == 401


async def test_the_deepest_names_fit_into_a_cursor(sqlite_service: Service) -> None:
    service = sqlite_service
    parent = None
    for level in range(8):
        parent = (await create(service, f"{level}{'n' * 62}", parent=parent))["name"]
    assert len(await listed(service, 1)) == 8


async def test_a_queue_in_use_is_not_removed(service: Service) -> None:
    await create(service, "ml")
    await create(service, "nlp", parent="ml")
    task = await service.submit(queue="ml", request={"gpus": 1})
    answer = await service.user.delete(f"{URL}/ml")
    assert answer.status_code == 409
    assert "below it are nlp" in answer.json()["detail"]
    assert task["id"] in answer.json()["detail"]
    await service.user.delete(f"{URL}/nlp")
    await service.user.post(f"/api/v1/tasks/{task['id']}/cancel")
    assert (await service.user.delete(f"{URL}/ml")).status_code == 204


async def test_a_queue_tells_what_it_and_those_below_hold_and_wait_for(service: Service) -> None:
    agent = await service.join("n1", gpus=2, model="H100")
    await create(service, "ml", guaranteed={"gpu_milli": 1000})
    await create(service, "nlp", parent="ml")
    task, allocation = await runs(service, agent, queue="nlp")
    for queue in ("ml", "default"):
        waits = await service.submit(queue=queue, request={"gpus": 16})
        await service.until_waiting(waits["id"])
    service.context.shares.entitlements = {"ml": {"gpu_milli": 400, "cpu_milli": 9}}
    ml = await show(service, "ml")
    assert {key: value for key, value in ml["in_use"].items() if value} == {
        "gpus": 1, "gpu_milli": 1000, "gpu_milli:H100": 1000,
    }  # fmt: skip
    assert (ml["running"], ml["pending"]) == (1, 1)
    assert ml["entitlement"] == {"cpu_milli": 9, "gpu_milli": 400}
    assert ml["borrowed"] == {"gpu_milli": 600}
    nlp, default = await show(service, "nlp"), await show(service, "default")
    assert (nlp["in_use"]["gpus"], nlp["pending"], nlp["entitlement"]) == (1, 0, {})
    assert (default["implicit"], default["pending"]) == (True, 1)
    assert (await service.user.get(f"{URL}/nobody")).status_code == 404
    found = await scrape(service)
    assert ({"queue": "ml", "dimension": "gpu_milli:H100"}, 1000) in found["stowplan_queue_in_use"]
    assert ({"queue": "ml", "dimension": "gpu_milli"}, 400) in found["stowplan_queue_entitlement"]
    assert ({"queue": "default", "state": "pending"}, 1) in found["stowplan_queue_tasks"]
    await agent.report(exited(allocation))
    await service.until_state(task, "succeeded")
    assert (await show(service, "ml"))["in_use"]["gpus"] == 0


async def test_guarantees_beyond_the_cluster_are_a_note(service: Service) -> None:
    assert (await create(service, "early", guaranteed={"gpus": 9}))["notes"] == []
    await service.join("n1", gpus=2)
    [note] = (await create(service, "late", guaranteed={"gpus": 1}))["notes"]
    assert note.startswith("gpus: the queues at the top are guaranteed 10 together")


async def test_where_queues_are_closed_only_those_created_take_tasks(
    tmp_path: Path, database_url: str
) -> None:
    async with running(tmp_path / "home", database_url, open_queues=False) as service:
        spec = {"argv": ["true"], "queue": "typo"}
        answer = await service.user.post("/api/v1/tasks", json=spec)
        assert paths(answer) == ["queue"]
        await create(service, "ml")
        await create(service, "nlp", parent="ml")
        answer = await service.user.post("/api/v1/tasks", json=spec)
        assert answer.json()["faults"][0]["reason"] == "no queue has this name; there are ml, nlp"
        for queue in ("ml", "nlp"):
            await service.submit(queue=queue)


async def test_an_idle_holder_pays_and_its_usage_fades(timed: Service, clock: ManualClock) -> None:
    loop = await timed.take_over(UsageLoop(timed.context))
    agent = await timed.join("n1", gpus=2)
    await agent.report()
    _, allocation = await runs(timed, agent, queue="research")
    clock.advance(3_600)
    assert (await show(timed, "research"))["usage_gpu_hours"] == pytest.approx(1, abs=0.01)
    await loop.tick()
    clock.advance(3_600)
    await loop.tick()
    await loop.tick()
    two = (await show(timed, "research"))["usage_gpu_hours"]
    assert two == pytest.approx(2, abs=0.02)
    await agent.report(exited(allocation, at_ms=timed.now_ms()))
    clock.advance(WEEK)
    await loop.tick()
    assert (await show(timed, "research"))["usage_gpu_hours"] == pytest.approx(two / 2, abs=0.01)
    clock.advance(100 * WEEK)
    await loop.tick()
    assert (await timed.user.get(f"{URL}/research")).status_code == 404


async def test_usage_since_the_last_look_is_made_up_for_after_a_restart(
    tmp_path: Path, database_url: str, clock: ManualClock
) -> None:
    async with running(tmp_path / "home", database_url, clock, **PATIENT) as service:
        loop = await service.take_over(UsageLoop(service.context))
        agent = await service.join("n1", gpus=2)
        task = await service.submit(queue="research", request={"gpus": 1, "gpu_milli": 500})
        allocation = await desired(service, agent, "run")
        await agent.report(state(allocation, "running", pid=1))
        clock.advance(3_600)
        await loop.tick()
        clock.advance(3_600)
        await agent.report(exited(allocation, at_ms=service.now_ms()))
        assert (await service.task(task["id"]))["state"] == "succeeded"
        clock.advance(3_600)
    async with running(tmp_path / "home", database_url, clock, **PATIENT) as service:
        await (await service.take_over(UsageLoop(service.context))).tick()
        seen = (await show(service, "research"))["usage_gpu_hours"]
    assert seen == pytest.approx(1.0, abs=0.01)


async def test_a_node_whose_clock_runs_ahead_holds_nothing_after_the_end(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(UsageLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    _, allocation = await runs(timed, agent, queue="research")
    clock.advance(3_600)
    await loop.tick()
    await agent.report(exited(allocation, at_ms=timed.now_ms() + 10**12))
    clock.advance(3_600)
    assert (await show(timed, "research"))["usage_gpu_hours"] == pytest.approx(1, abs=0.01)
