"""From submission to the end: planned, committed, started in two phases, settled."""

from typing import Any

from app import signals
from app.nodes.service import get
from tests.service import Agent, Service, exited, registration, state


async def desired(service: Service, agent: Agent, phase: str) -> dict[str, Any]:
    """The node's one allocation, once the service wants this phase of it."""
    node = (await service.user.get(f"/api/v1/nodes/{agent.name}")).json()
    assert node["name"] == agent.name

    async def look() -> dict[str, Any] | None:
        allocations = await agent.desired()
        return next((a for a in allocations if a["phase"] == phase), None)

    async with service.context.database.read() as session:
        topic = signals.node_topic((await get(session, agent.name)).id)
    return await service.until(look, f"{agent.name} is to {phase}", topic)


async def test_a_single_task_is_placed_runs_and_succeeds(service: Service) -> None:
    agent = await service.join("n1", gpus=2)
    task = await service.submit(name="train", request={"gpus": 1, "cpu_milli": 1000})
    allocation = await desired(service, agent, "run")
    assert allocation["launch"]["argv"] == ["true"]
    assert allocation["gang"] == {
        "rank": 0,
        "size": 1,
        "master_address": "127.0.0.1",
        "master_port": None,
    }
    assert len(allocation["devices"]) == 1
    await agent.report(
        state(allocation, "running", pid=4711, port=20_001, started_at_ms=1_767_225_600_000)
    )
    running = await service.task(task["id"])
    assert running["state"] == "running"
    assert running["allocations"][0]["endpoint"] == "127.0.0.1:20001"
    assert running["allocations"][0]["devices"][0]["simulated"] is True
    ack = await agent.report(exited(allocation))
    assert ack["settled"] == [allocation["id"]]
    done = await service.task(task["id"])
    assert done["state"] == "succeeded"
    assert done["running_seconds"] == 100.0
    assert await agent.desired() == []


async def test_a_gang_starts_only_when_all_its_replicas_are_ready(service: Service) -> None:
    one, two = await service.join("n1", gpus=1), await service.join("n2", gpus=1)
    task = await service.submit(replicas=2, request={"gpus": 1})
    first, second = await desired(service, one, "prepare"), await desired(service, two, "prepare")
    assert {first["gang"]["rank"], second["gang"]["rank"]} == {0, 1}
    master = first if first["gang"]["rank"] == 0 else second
    agent_of = {first["id"]: one, second["id"]: two}
    await agent_of[master["id"]].report(state(master, "ready", port=20_500))
    assert (await service.task(task["id"]))["state"] == "starting"
    assert {a["phase"] for a in [*await one.desired(), *await two.desired()]} == {"prepare"}
    other = second if master is first else first
    await agent_of[other["id"]].report(state(other, "ready", port=20_600))
    for agent in (one, two):
        allocation = await desired(service, agent, "run")
        assert allocation["gang"]["master_port"] == 20_500
        assert allocation["gang"]["size"] == 2
        await agent.report(state(allocation, "running", pid=1))
    assert (await service.task(task["id"]))["state"] == "running"


async def start_gang(
    service: Service, *agents: Agent, **spec: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    task = await service.submit(
        replicas=len(agents), spread_over="node", request={"gpus": 1}, **spec
    )
    prepared = [await desired(service, agent, "prepare") for agent in agents]
    for agent, allocation in zip(agents, prepared, strict=True):
        await agent.report(state(allocation, "ready", port=20_500))
    running = [await desired(service, agent, "run") for agent in agents]
    for agent, allocation in zip(agents, running, strict=True):
        await agent.report(state(allocation, "running", pid=1))
    assert (await service.task(task["id"]))["state"] == "running"
    return task, running


async def test_a_failed_replica_stops_its_gang_and_is_named_as_the_reason(service: Service) -> None:
    one, two = await service.join("n1", gpus=1), await service.join("n2", gpus=1)
    task, (first, second) = await start_gang(service, one, two)
    await one.report(exited(first, 3))
    stopping = await service.task(task["id"])
    assert stopping["state"] == "stopping"
    assert (await desired(service, two, "stop"))["id"] == second["id"]
    await two.report(exited(second, None, signal=15, stopped=True))
    failed = await service.task(task["id"])
    assert failed["state"] == "failed"
    assert "exit code 3" in failed["reason"]


async def test_a_failure_within_max_restarts_is_tried_again_as_a_new_generation(
    service: Service,
) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(max_restarts=1, request={"gpus": 1})
    first = await desired(service, agent, "run")
    await agent.report(exited(first, 1))
    second = await desired(service, agent, "run")
    assert (first["generation"], second["generation"]) == (1, 2)
    assert first["id"] != second["id"]
    await agent.report(exited(second, 1))
    assert (await service.task(task["id"]))["state"] == "failed"


async def test_a_cancelled_gang_holds_its_devices_until_its_agents_say_it_is_over(
    service: Service,
) -> None:
    one, two = await service.join("n1", gpus=1), await service.join("n2", gpus=1)
    task, (first, second) = await start_gang(service, one, two)
    answer = await service.user.post(f"/api/v1/tasks/{task['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "stopping")
    waiting = await service.submit(request={"gpus": 1})
    why = await service.until_waiting(waiting["id"])
    assert why["state"] == "pending"
    await one.report(exited(first, None, signal=15, stopped=True))
    await two.report(exited(second, None, signal=9, stopped=True))
    assert (await service.task(task["id"]))["state"] == "cancelled"
    await service.until_state(waiting["id"], "starting")


async def test_what_cannot_fit_waits_with_its_reasons_and_starts_when_a_node_joins(
    service: Service,
) -> None:
    await service.join("n1", gpus=2)
    task = await service.submit(name="big", request={"gpus": 4})
    why = await service.until_waiting(task["id"])
    assert why["state"] == "pending"
    assert why["reasons"][0]["code"] in {"no_capacity", "gang_does_not_fit"}
    assert why["text"].startswith("big waits: ")
    assert why["plan"]["status"] == "optimal"
    await service.join("n2", gpus=4)
    await service.until_state(task["id"], "starting")
    why = (await service.user.get(f"/api/v1/tasks/{task['id']}/why")).json()
    assert why["reasons"] == []
    assert "n2" in why["text"]


async def test_a_cordoned_node_takes_nothing_new(service: Service) -> None:
    await service.join("n1", gpus=1)
    answer = await service.user.patch("/api/v1/nodes/n1", json={"schedulable": False})
    assert answer.json()["schedulable"] is False
    task = await service.submit(request={"gpus": 1})
    why = await service.until_waiting(task["id"])
    assert {reason["code"] for reason in why["reasons"]} == {"unschedulable_nodes"}
    await service.user.patch("/api/v1/nodes/n1", json={"schedulable": True})
    await service.until_state(task["id"], "starting")


async def test_an_unhealthy_device_takes_nothing_new(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    inventory = registration("n1", gpus=1)["inventory"]
    inventory["devices"][0] |= {"healthy": False, "fault": "Xid 79: fell off the bus"}
    await agent.report(inventory=inventory)
    task = await service.submit(request={"gpus": 1})
    await service.until_waiting(task["id"])
    node = (await service.user.get("/api/v1/nodes/n1")).json()
    assert node["devices"][0]["fault"] == "Xid 79: fell off the bus"
    inventory["devices"][0] |= {"healthy": True, "fault": None}
    await agent.report(inventory=inventory)
    await service.until_state(task["id"], "starting")


async def test_a_plan_repeats_from_its_stored_problem(service: Service) -> None:
    await service.join("n1", gpus=2)
    task = await service.submit(request={"gpus": 1})
    placed = await service.until_state(task["id"], "starting")
    plan = (await service.user.get(f"/api/v1/plans/{placed['plan']}")).json()
    problem = (await service.user.get(f"/api/v1/plans/{placed['plan']}/problem")).content
    again = await service.user.post("/api/v1/solve", content=problem)
    assert again.status_code == 200
    assert again.json()["placements"] == plan["plan"]["placements"]
    assert again.json()["stats"]["digest"] == plan["digest"]


async def test_events_tell_the_story_in_order(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    allocation = await desired(service, agent, "run")
    await agent.report(state(allocation, "running", pid=1))
    await agent.report(exited(allocation))
    page = (await service.user.get(f"/api/v1/events?task={task['id']}")).json()
    kinds = [event["kind"] for event in page["items"]]
    assert kinds == ["task_submitted", "task_placed", "task_running", "task_succeeded"]
    rest = (await service.user.get(f"/api/v1/events?after={page['next_after']}")).json()
    assert rest["items"] == []


async def test_a_task_that_ended_before_its_node_could_tell_did_run_all_the_same(
    service: Service,
) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    await service.until_state(task["id"], "starting")
    [allocation] = await agent.desired()
    await agent.report(exited(allocation) | {"started_at_ms": 1_767_225_699_000})
    shown = await service.task(task["id"])
    assert shown["started_at"] == "2026-01-01T00:01:39Z", "as the node says"
    events = (await service.user.get(f"/api/v1/events?task={task['id']}")).json()["items"]
    assert [event["kind"] for event in events][-2:] == ["task_running", "task_succeeded"]
