"""Nodes that fall silent, start anew or can't be rid of something: what becomes of their tasks."""

import asyncio
from typing import Any

from app.db.samples.looks import Looks
from app.loops.nodes import NodesLoop
from app.watch.service import Watcher
from tests.integration.test_main_path import desired
from tests.service import Agent, ManualClock, Service, exited, rows, state

KEEP = {"on_lease_lost": "keep"}


async def node(service: Service, name: str) -> dict[str, Any]:
    return (await service.user.get(f"/api/v1/nodes/{name}")).json()


async def runs(service: Service, agent: Agent, **spec: Any) -> tuple[str, dict[str, Any]]:
    """A task that runs on the agent's node: its id, and its allocation."""
    task = await service.submit(request={"gpus": 1}, **spec)

    async def there() -> dict[str, Any] | None:
        wanted = await agent.desired()
        return next((one for one in wanted if one["task"] == task["id"]), None)

    allocation = await service.until(there, f"{task['id']} is on {agent.name}")
    await agent.report(state(allocation, "running", pid=1))
    return task["id"], allocation


async def event_messages(service: Service, kind: str) -> list[str]:
    items = (await service.user.get("/api/v1/events", params={"limit": 1000})).json()["items"]
    return [event["message"] for event in items if event["kind"] == kind]


async def post(service: Service, path: str, **form: Any) -> dict[str, Any]:
    answer = await service.user.post(f"/api/v1/nodes/{path}", json=form)
    assert answer.status_code == 200, answer.text
    return answer.json()


# Lease policies.


async def test_tasks_of_a_silent_node_are_lost_each_in_its_own_time(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=2)
    await agent.report()
    quick, one = await runs(timed, agent, grace_seconds=0)
    slow, two = await runs(timed, agent, grace_seconds=200)
    await agent.report(state(one, "running", pid=1), state(two, "running", pid=2))
    clock.advance(120)  # lease 100, plus 1 %, 5 s to kill, 10 s margin: 116
    await loop.tick()
    assert (await timed.task(quick))["state"] == "pending"
    assert (await timed.task(slow))["state"] == "running"
    assert (await node(timed, "n1"))["state"] == "unreachable", "it may stop its task still"
    clock.advance(199)
    await loop.tick()
    assert (await timed.task(slow))["state"] == "pending"
    assert (await node(timed, "n1"))["state"] == "lost"


async def test_the_checkpoint_that_a_task_is_asked_for_is_waited_for(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(
        timed, agent, grace_seconds=20, checkpoint={"ask": "file", "ack_seconds": 30}
    )
    clock.advance(171)  # (100 + 30 + 20 + 5) * 1.01 + 5 + 10 = 171.55
    await loop.tick()
    assert (await timed.task(task))["state"] == "running"
    clock.advance(1)
    await loop.tick()
    assert (await timed.task(task))["state"] == "pending"


async def test_a_kept_task_of_a_lost_node_stays_its_own_and_goes_on(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, allocation = await runs(timed, agent, **KEEP)
    other = await timed.join("n2", gpus=1)
    clock.advance(100_000)
    await other.report()
    await loop.tick()
    assert (await node(timed, "n1"))["state"] == "lost"
    seen = await timed.task(task)
    assert seen["state"] == "running"
    assert seen["allocations"][0]["state"] == "unknown"
    assert "kept: runs on unless its machine is gone" in seen["allocations"][0]["reason"]
    why = (await timed.user.get(f"/api/v1/tasks/{task}/why")).json()
    assert "kept: runs on unless its machine is gone" in why["text"]
    assert await other.desired() == []
    [message] = await event_messages(timed, "node_lost")
    assert "1 that it is to keep" in message

    await agent.report(state(allocation, "running", pid=1))
    assert (await node(timed, "n1"))["state"] == "ready"
    seen = await timed.task(task)
    assert (seen["allocations"][0]["state"], seen["generation"]) == ("running", 1)


async def test_a_replica_that_was_only_prepared_is_lost_whatever_its_policy(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    one, two = await timed.join("n1", gpus=1), await timed.join("n2", gpus=1)
    await one.report()
    task = await timed.submit(request={"gpus": 1}, replicas=2, **KEEP)
    await desired(timed, one, "prepare")
    second = await desired(timed, two, "prepare")
    clock.advance(200)
    await two.report(state(second, "ready", port=2))
    await loop.tick()
    seen = await timed.task(task["id"])
    assert sorted(a["state"] for a in seen["allocations"]) == ["lost", "ready"]


async def test_a_rebooted_node_that_knows_its_kept_task_says_how_it_ended(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await runs(timed, agent, **KEEP)
    await agent.register(gpus=1)
    await agent.report(exited(allocation, 0), boot_id="boot-2", epoch="epoch-2")
    assert (await timed.task(task))["state"] == "succeeded"


async def test_a_rebooted_node_that_lost_its_memory_has_lost_its_kept_task(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await runs(timed, agent, **KEEP)
    await agent.register(gpus=1)
    assert (await timed.task(task))["state"] == "running", "registering says nothing of tasks"
    await agent.report(boot_id="boot-2", epoch="epoch-2")
    again = await desired(timed, agent, "run")
    assert (again["task"], again["generation"]) == (task, 2)
    assert again["id"] != allocation["id"]
    assert (await timed.task(task))["failures"] == 0


async def test_an_agent_started_anew_in_the_same_boot_has_lost_nothing(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(timed, agent, **KEEP)
    await agent.register(gpus=1)
    await agent.report(epoch="epoch-2")
    assert (await timed.task(task))["generation"] == 1
    assert (await timed.task(task))["state"] == "running"


async def test_a_node_declared_lost_gives_its_kept_tasks_to_others(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, allocation = await runs(timed, agent, **KEEP)
    refused = await timed.user.post("/api/v1/nodes/n1/declare-lost")
    assert refused.status_code == 409
    assert "is alive" in refused.json()["detail"]
    assert (await timed.user.post("/api/v1/nodes/nosuch/declare-lost")).status_code == 404
    other = await timed.join("n2", gpus=1)
    clock.advance(20)
    await other.report()
    await loop.tick()
    assert [one["name"] for one in (await node(timed, "n1"))["tasks"]] == ["true"]
    view = await post(timed, "n1/declare-lost")
    assert (view["state"], view["tasks"]) == ("lost", [])
    moved = await desired(timed, other, "run")
    assert (moved["task"], moved["generation"]) == (task, 2)
    assert "declared lost by a user" in (await event_messages(timed, "node_lost"))[-1]

    before = (await agent.desired(revision=-1)) or []
    assert before == [], "should it be there after all, it's to run nothing of before"
    ack = await agent.report(state(allocation, "running", pid=1))
    assert await agent.desired(revision=ack["revision"] - 1) == []
    ack = await agent.report(exited(allocation, 0))
    assert ack["settled"] == [allocation["id"]]
    assert (await timed.task(task))["state"] == "starting", "the old copy's end means nothing"


async def test_an_agent_that_waits_for_news_hears_that_its_node_was_declared_lost(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    _, allocation = await runs(timed, agent, **KEEP)
    ack = await agent.report(state(allocation, "running", pid=1))
    waits = asyncio.create_task(
        agent.http.get("/agent/v1/desired", params={"revision": ack["revision"], "wait": 30})
    )
    await asyncio.sleep(0)
    clock.advance(20)
    await (await timed.take_over(NodesLoop(timed.context))).tick()
    await post(timed, "n1/declare-lost")
    answer = await waits
    assert answer.status_code == 200
    assert answer.json()["allocations"] == []


# What a node can't be rid of.


async def test_processes_that_do_not_end_take_node_and_device_out_of_use(timed: Service) -> None:
    agent = await timed.join("n1", gpus=2)
    task, allocation = await runs(timed, agent)
    await agent.report(
        state(allocation, "stopping", pid=1, unkillable=True, note="waits in the driver")
    )
    seen = await node(timed, "n1")
    assert seen["schedulable"] is False
    assert "don't end though they were killed: waits in the driver" in seen["drain_reason"]
    kept_off = {one["uuid"] for one in seen["devices"] if not one["healthy"]}
    assert kept_off == set(allocation["devices"])
    assert (await timed.task(task))["state"] == "running", "its end isn't invented"

    await agent.report(exited(allocation, None, signal=9))
    seen = await node(timed, "n1")
    assert all(one["healthy"] for one in seen["devices"])
    assert seen["schedulable"] is False, "a person looks at it first"


async def test_a_device_that_was_not_given_back_is_quarantined_until_the_node_boots(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=2)
    _, allocation = await runs(timed, agent)
    [uuid] = allocation["devices"]
    report = exited(allocation, 0) | {
        "held_devices": [uuid, "GPU-of-somebody"],
        "note": "process 4711 holds it",
    }
    await agent.report(report)
    [one] = (await timed.user.get("/api/v1/quarantines")).json()["items"]
    assert (one["uuid"], one["code"], one["by_rule"]) == (uuid, "unreleased", True)
    assert "is over, but process 4711 holds it" in one["reason"]
    await agent.report(boot_id="boot-2", epoch="epoch-2")
    assert (await timed.user.get("/api/v1/quarantines")).json()["items"] == []


async def test_a_device_takes_tasks_again_once_what_was_left_on_it_is_seen_to_be_gone(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    _, allocation = await runs(timed, agent)
    [uuid] = allocation["devices"]
    await agent.report(exited(allocation, 0) | {"held_devices": [uuid]})
    telemetry = timed.app.state.telemetry
    watcher = Watcher(
        timed.context, telemetry.live, Looks(telemetry.store), timed.app.state.findings
    )

    async def codes_after(seconds: float, **values: float) -> list[str]:
        clock.advance(seconds)
        columns = {name: [value] for name, value in values.items()}
        await agent.measure(devices=rows([timed.now_ms()], of=[uuid], **columns))
        await watcher.look()
        found = (await timed.user.get("/api/v1/quarantines")).json()["items"]
        return [one["code"] for one in found]

    gone = {"process_count": 0, "foreign_process_count": 0, "memory_used_mib": 500.0}
    assert await codes_after(30, **gone) == ["unreleased"], "that row may be of before"
    assert await codes_after(31, **gone | {"memory_used_mib": 5_000.0}) == ["unreleased"]
    assert await codes_after(5, **gone | {"foreign_process_count": 1}) == ["unreleased"]
    assert await codes_after(5, **gone) == []
