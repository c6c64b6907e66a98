"""Reports and leases: what is applied once, what never, and when a silent node's tasks move on."""

import asyncio

from app.loops.nodes import NodesLoop
from tests.integration.test_main_path import desired, start_gang
from tests.service import ManualClock, Service, exited, state


async def test_a_report_sent_twice_changes_nothing_the_second_time(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1}, max_restarts=5)
    allocation = await desired(service, agent, "run")
    form = agent.report_form(exited(allocation, 1))
    first = (await agent.http.post("/agent/v1/report", json=form)).json()
    again = (await agent.http.post("/agent/v1/report", json=form)).json()
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["settled"] == again["settled"] == [allocation["id"]]
    assert (await service.task(task["id"]))["failures"] == 1


async def test_a_report_overtaken_by_a_newer_one_is_not_applied(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    allocation = await desired(service, agent, "run")
    late = agent.report_form(state(allocation, "running", pid=1))
    await agent.report(exited(allocation))
    answer = (await agent.http.post("/agent/v1/report", json=late)).json()
    assert answer["duplicate"] is True
    assert (await service.task(task["id"]))["state"] == "succeeded"


async def test_a_restarted_agent_begins_a_new_epoch_at_one(service: Service) -> None:
    agent = await service.join("n1")
    await agent.report()
    await agent.report()
    form = agent.report_form() | {"epoch": "epoch-2", "seq": 1}
    answer = (await agent.http.post("/agent/v1/report", json=form)).json()
    assert answer["duplicate"] is False


async def test_a_state_never_goes_back(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    allocation = await desired(service, agent, "run")
    await agent.report(state(allocation, "running", pid=7))
    await agent.report(state(allocation, "ready"))
    assert (await service.task(task["id"]))["allocations"][0]["state"] == "running"


async def test_a_node_cannot_end_another_nodes_allocation(service: Service) -> None:
    one = await service.join("n1", gpus=1)
    two = await service.join("n2")
    task = await service.submit(request={"gpus": 1})
    allocation = await desired(service, one, "run")
    ack = await two.report(exited(allocation))
    assert ack["settled"] == [allocation["id"]], "nobody waits for that word: it may forget it"
    assert (await service.task(task["id"]))["state"] == "starting"


async def test_the_desired_set_is_held_until_it_changes(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    ack = await agent.report()
    held = asyncio.create_task(
        agent.http.get("/agent/v1/desired", params={"revision": ack["revision"], "wait": 30})
    )
    await service.submit(request={"gpus": 1})
    answer = await held
    assert answer.status_code == 200
    assert answer.json()["revision"] > ack["revision"]
    unchanged = await agent.http.get(
        "/agent/v1/desired", params={"revision": answer.json()["revision"], "wait": 0}
    )
    assert unchanged.status_code == 204


async def test_an_exit_that_nobody_saw_is_no_failure_of_the_task(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    first = await desired(service, agent, "run")
    await agent.report(exited(first, None, lost=True, reason="the node rebooted"))
    second = await desired(service, agent, "run")
    assert second["generation"] == 2
    assert (await service.task(task["id"]))["failures"] == 0


async def test_stopped_with_exit_code_0_is_not_success(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    first = await desired(service, agent, "run")
    await agent.report(exited(first, 0, stopped=True, reason="lease expired"))
    second = await desired(service, agent, "run")
    assert second["generation"] == 2
    assert (await service.task(task["id"]))["state"] == "starting"


async def node_state(service: Service, name: str) -> str:
    return (await service.user.get(f"/api/v1/nodes/{name}")).json()["state"]


async def test_a_silent_nodes_tasks_are_placed_elsewhere_only_after_lease_grace_and_margin(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    one = await timed.join("n1", gpus=1)
    await one.report()
    task = await timed.submit(request={"gpus": 1}, grace_seconds=20)
    allocation = await desired(timed, one, "run")
    await one.report(state(allocation, "running", pid=1))
    two = await timed.join("n2", gpus=1)

    clock.advance(20)
    await two.report()
    await loop.tick()
    assert (await node_state(timed, "n1"), await node_state(timed, "n2")) == (
        "unreachable",
        "ready",
    )
    assert (await timed.task(task["id"]))["state"] == "running", "its node may well be alive"

    clock.advance(115)  # 135 s of silence: lease 100 + grace 20, plus 1 %, 5 s to kill, 10 s margin
    await two.report()
    await loop.tick()
    assert await node_state(timed, "n1") == "unreachable"
    assert await two.desired() == []

    clock.advance(2)
    await two.report()
    await loop.tick()
    assert await node_state(timed, "n1") == "lost"
    moved = await desired(timed, two, "run")
    assert (moved["task"], moved["generation"]) == (task["id"], 2)
    assert (await timed.task(task["id"]))["failures"] == 0


async def test_a_lost_node_that_speaks_again_is_told_to_run_nothing_of_before(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    one = await timed.join("n1", gpus=1)
    await one.report()
    task = await timed.submit(request={"gpus": 1})
    old = await desired(timed, one, "run")
    await one.report(state(old, "running", pid=1))
    clock.advance(1_000)
    await loop.tick()
    assert await node_state(timed, "n1") == "lost"
    await one.report(state(old, "running", pid=1))
    assert await node_state(timed, "n1") == "ready"
    new = await desired(timed, one, "run")
    assert new["id"] != old["id"]
    assert [a["id"] for a in await one.desired()] == [new["id"]]
    ack = await one.report(exited(old, 0))
    assert ack["settled"] == [old["id"]]
    assert (await timed.task(task["id"]))["state"] == "starting", "the old copy's end means nothing"


async def test_a_gang_that_lost_a_node_goes_on_as_a_whole_elsewhere(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    one, two = await timed.join("n1", gpus=1), await timed.join("n2", gpus=1)
    await one.report()
    task, (_, second) = await start_gang(timed, one, two)
    three = await timed.join("n3", gpus=1)
    clock.advance(1_000)
    await two.report(exited(second, 1, reason="connection reset by peer"))
    await three.report()
    await loop.tick()
    assert await node_state(timed, "n1") == "lost"
    again = [await desired(timed, agent, "prepare") for agent in (two, three)]
    assert {a["generation"] for a in again} == {2}
    assert (await timed.task(task["id"]))["failures"] == 0
