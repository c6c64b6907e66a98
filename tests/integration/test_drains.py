"""Drains and maintenance: who leaves a node when, and what is told of it."""

from app import signals
from app.loops.drains import DrainLoop
from app.loops.nodes import NodesLoop
from tests.integration.test_main_path import desired, start_gang
from tests.integration.test_node_life import event_messages, node, post, runs
from tests.service import ManualClock, Service, exited


async def test_an_empty_node_is_drained_at_once(timed: Service) -> None:
    await timed.join("n1", gpus=1)
    view = await post(timed, "n1/drain", deadline_seconds=60, reason="new disk")
    assert (view["schedulable"], view["drain_until"], view["leaving"]) == (False, None, 0)
    assert view["drain_reason"] == "new disk"
    assert len(await event_messages(timed, "node_drained")) == 1


async def test_drained_tasks_are_told_why_and_go_on_elsewhere(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(timed, agent, kind="service")
    other = await timed.join("n2", gpus=1)
    view = await post(timed, "n1/drain", deadline_seconds=600, reason="new disk")
    assert view["leaving"] == 1
    [stopping] = await agent.desired()
    assert stopping["phase"] == "stop"
    assert stopping["stop"] == {
        "cause": "drained",
        "reason": "node n1 is drained: new disk",
        "kill": False,
    }
    await agent.report(exited(stopping, 0, stopped=True, cause="drained"))
    moved = await desired(timed, other, "run")
    assert (moved["task"], moved["generation"]) == (task, 2)

    async def is_drained() -> bool:
        return (await node(timed, "n1"))["drain_until"] is None

    await timed.until(is_drained, "n1 is drained", signals.EVENTS)
    assert len(await event_messages(timed, "node_drained")) == 1
    assert (await node(timed, "n1"))["schedulable"] is False


async def test_at_the_deadline_what_was_asked_to_leave_is_killed(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(DrainLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    await runs(timed, agent, grace_seconds=3600)
    await post(timed, "n1/drain", deadline_seconds=60)
    ack = await agent.report()
    await loop.tick()
    assert (await agent.desired())[0]["stop"]["kill"] is False
    clock.advance(60)
    await loop.tick()
    [killed] = await agent.desired(revision=ack["revision"])
    assert killed["stop"]["kill"] is True
    told = (await agent.report())["revision"]
    await loop.tick()
    assert (await agent.report())["revision"] == told, "it's told once"


async def test_a_task_that_may_not_be_preempted_has_until_the_deadline(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(DrainLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(timed, agent, preemptible=False)
    await post(timed, "n1/drain", deadline_seconds=60)
    await loop.tick()
    assert (await timed.task(task))["state"] == "running"
    clock.advance(60)
    await loop.tick()
    [stopping] = await agent.desired()
    assert (stopping["phase"], stopping["stop"]["kill"]) == ("stop", False)


async def test_a_gang_leaves_a_drained_node_as_a_whole(timed: Service) -> None:
    one, two = await timed.join("n1", gpus=1), await timed.join("n2", gpus=1)
    await one.report()
    await start_gang(timed, one, two)
    await post(timed, "n1/drain")
    for agent in (one, two):
        [stopping] = await agent.desired()
        assert (stopping["phase"], stopping["stop"]["cause"]) == ("stop", "drained")


async def test_uncordoning_ends_a_drain(timed: Service, clock: ManualClock) -> None:
    loop = await timed.take_over(DrainLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(timed, agent, preemptible=False)
    await post(timed, "n1/maintenance", deadline_seconds=60, reason="new disk")
    answer = await timed.user.patch("/api/v1/nodes/n1", json={"schedulable": True})
    view = answer.json()
    assert (view["drain_until"], view["drain_reason"], view["maintenance_since"]) == (
        None, "", None,
    )  # fmt: skip
    clock.advance(100)
    await loop.tick()
    assert (await timed.task(task))["state"] == "running"


async def test_silence_in_maintenance_raises_no_alarm(timed: Service, clock: ManualClock) -> None:
    loop = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    await agent.report()
    view = await post(timed, "n1/maintenance", deadline_seconds=0, reason="new disk")
    assert view["maintenance_since"] is not None
    clock.advance(20)
    await loop.tick()
    clock.advance(1_000)
    await loop.tick()
    assert (await node(timed, "n1"))["state"] == "lost"
    assert await event_messages(timed, "node_unreachable") == []
    assert await event_messages(timed, "node_lost") == []
    assert 'stowplan_nodes{state="maintenance"} 1.0' in (await timed.user.get("/metrics")).text


async def test_bad_drains_are_refused_by_name(timed: Service) -> None:
    await timed.join("n1")
    for route, form, path in (
        ("drain", {"deadline_seconds": -1}, "deadline_seconds"),
        ("drain", {"deadline_seconds": "soon"}, "deadline_seconds"),
        ("drain", {"deadline_seconds": 1e300}, "deadline_seconds"),
        ("drain", {"reason": "a\0b"}, "reason"),
        ("drain", {"deadline": 5}, "deadline"),
        ("maintenance", {}, "reason"),
        ("maintenance", {"reason": ""}, "reason"),
    ):
        answer = await timed.user.post(f"/api/v1/nodes/n1/{route}", json=form)
        assert answer.status_code == 422, form
        assert [fault["path"] for fault in answer.json()["faults"]] == [path]
    assert (await timed.user.post("/api/v1/nodes/nosuch/drain", json={})).status_code == 404
    assert (await node(timed, "n1"))["schedulable"] is True
