"""Who gives way to whom: stopped, reserved, started when the room is really free."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app import signals
from app.loops.nodes import NodesLoop
from app.nodes.service import get
from tests.service import Agent, ManualClock, Service, exited, running, state

HOUR = 3_600


@pytest.fixture
async def cluster(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(
        tmp_path / "home",
        database_url,
        clock,
        lease_seconds=86_400,
        unreachable_after_seconds=HOUR,
    ) as service:
        yield service


async def wanted(service: Service, agent: Agent, task: dict[str, Any], phase: str) -> Any:
    """The task's allocation on the node, once the service wants this phase of it."""

    async def look() -> dict[str, Any] | None:
        found = await agent.desired()
        return next((a for a in found if a["task"] == task["id"] and a["phase"] == phase), None)

    async with service.context.database.read() as session:
        topic = signals.node_topic((await get(session, agent.name)).id)
    return await service.until(look, f"{agent.name} is to {phase} {task['name']}", topic)


async def start(service: Service, agent: Agent, **spec: Any) -> tuple[Any, dict[str, Any]]:
    """A task that runs on this node, and its allocation."""
    task = await service.submit(**spec)
    allocation = await wanted(service, agent, task, "run")
    await agent.report(state(allocation, "running", pid=1))
    return task, allocation


async def pass_time(clock: ManualClock, seconds: float, *agents: Agent, **said: Any) -> None:
    clock.advance(seconds)
    for agent in agents:
        await agent.report(**said)


def saved(service: Service, allocation: dict[str, Any], ago_seconds: float) -> dict[str, Any]:
    return {
        "id": allocation["id"],
        "generation": allocation["generation"],
        "checkpoint_at_ms": service.now_ms() - round(ago_seconds * 1000),
    }


async def reserved(service: Service, task: dict[str, Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        seen = await service.task(task["id"])
        return seen if seen["reserved"] else None

    return await service.until(look, f"room is kept for {task['name']}")


async def planned(service: Service, task: dict[str, Any]) -> dict[str, Any]:
    """The task's `why`, once a plan has spoken of it."""
    return await service.until_waiting(task["id"])


async def kinds(service: Service, task: dict[str, Any]) -> list[str]:
    page = (await service.user.get(f"/api/v1/events?task={task['id']}")).json()
    return [event["kind"] for event in page["items"]]


def stopped(allocation: dict[str, Any], **more: Any) -> dict[str, Any]:
    return exited(allocation, 0, stopped=True, **{"cause": "preempted", **more})


async def test_the_task_that_saved_last_gives_way_and_its_room_goes_to_nobody_else(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=2)
    stale, one = await start(cluster, agent, name="stale", request={"gpus": 1})
    fresh, two = await start(cluster, agent, name="fresh", request={"gpus": 1})
    for _ in range(3):
        await pass_time(clock, 3_000, agent)
    await agent.report(
        *(state(allocation, "running", pid=1) for allocation in (one, two)),
        progress=[saved(cluster, one, HOUR), saved(cluster, two, 60)],
    )

    urgent = await cluster.submit(name="urgent", priority=10, request={"gpus": 1})
    victim = await cluster.until_state(fresh["id"], "stopping")
    assert victim["reason"] == "preempted for urgent (priority 10 over 0)"
    assert (victim["stop_cause"], victim["preemptions"]) == ("preempted", 1)
    order = (await wanted(cluster, agent, fresh, "stop"))["stop"]
    assert order["cause"] == "preempted"
    assert "urgent" in order["reason"]
    waits = await reserved(cluster, urgent)
    assert waits["reserved"] == [{"node": "n1", "devices": two["devices"]}]
    why = (await cluster.user.get(f"/api/v1/tasks/{urgent['id']}/why")).json()
    assert why["reasons"][0]["code"] == "reserved"
    assert "fresh has to leave n1 first (preempted)" in why["text"]
    assert "Room is kept for it on n1" in why["text"]

    late = await cluster.submit(name="late", request={"gpus": 1})
    await planned(cluster, late)
    assert {(await cluster.task(t["id"]))["state"] for t in (late, urgent)} == {"pending"}
    assert (await cluster.task(stale["id"]))["state"] == "running"

    await agent.report(stopped(two, checkpoint="saved"))
    started = await wanted(cluster, agent, urgent, "run")
    assert started["devices"] == two["devices"]
    again = await cluster.task(fresh["id"])
    assert again["state"] == "pending"
    assert again["reason"].endswith(
        "preempted for urgent (priority 10 over 0); its checkpoint was saved"
    )
    assert "task_preempted" in await kinds(cluster, fresh)
    assert (await kinds(cluster, urgent))[-2:] == ["task_reserved", "task_placed"]
    assert (await cluster.task(late["id"]))["state"] == "pending"

    await cluster.user.post(f"/api/v1/tasks/{late['id']}/cancel")
    await agent.report(exited(started))
    back = await wanted(cluster, agent, fresh, "run")
    assert back["generation"] == 2
    assert (await cluster.task(fresh["id"]))["stop_cause"] == ""


async def test_where_there_is_room_nobody_is_even_asked_to_give_way(cluster: Service) -> None:
    async def max_moves(task: dict[str, Any]) -> int:
        plan = (await cluster.task(task["id"]))["plan"]
        problem = await cluster.user.get(f"/api/v1/plans/{plan}/problem")
        return problem.json()["budget"]["max_moves"]

    agent = await cluster.join("n1", gpus=2)
    first, _ = await start(cluster, agent, name="first", request={"gpus": 1})
    second, _ = await start(cluster, agent, name="second", priority=10, request={"gpus": 1})
    assert (await max_moves(first), await max_moves(second)) == (0, 0)
    third = await cluster.submit(name="third", priority=10, request={"gpus": 1})
    await planned(cluster, third)
    assert await max_moves(third) == 8


async def test_a_task_just_started_isnt_preempted_and_gives_way_later(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=1)
    young, _ = await start(cluster, agent, request={"gpus": 1})
    clock.advance(30)
    urgent = await cluster.submit(priority=10, request={"gpus": 1})
    await planned(cluster, urgent)
    assert (await cluster.task(young["id"]))["state"] == "running"
    clock.advance(31)
    cluster.context.signals.notify(signals.PLANNING)
    await cluster.until_state(young["id"], "stopping")


async def test_what_isnt_preemptible_and_what_is_as_urgent_stays(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=2)
    held, _ = await start(cluster, agent, preemptible=False, request={"gpus": 1})
    equal, _ = await start(cluster, agent, priority=10, request={"gpus": 1})
    await pass_time(clock, 3_000, agent)
    urgent = await cluster.submit(priority=10, request={"gpus": 1})
    await planned(cluster, urgent)
    assert {(await cluster.task(t["id"]))["state"] for t in (held, equal)} == {"running"}


async def test_a_task_without_any_checkpoint_isnt_moved_for_one_of_its_own_priority(
    cluster: Service, clock: ManualClock
) -> None:
    one, two, _, _ = await two_halves(cluster, clock)
    whole = await cluster.submit(name="whole", request={"gpus": 2})
    await planned(cluster, whole)
    assert {(await cluster.task(t["id"]))["state"] for t in (one, two)} == {"running"}


async def two_halves(
    cluster: Service, clock: ManualClock, **spec: Any
) -> tuple[Any, Any, Agent, Agent]:
    """Two nodes of two GPUs, one task of one GPU on each."""
    n1 = await cluster.join("n1", gpus=2)
    first, _ = await start(cluster, n1, name="one", request={"gpus": 1}, **spec)
    await cluster.user.patch("/api/v1/nodes/n1", json={"schedulable": False})
    n2 = await cluster.join("n2", gpus=2)
    second, _ = await start(cluster, n2, name="two", request={"gpus": 1}, **spec)
    await cluster.user.patch("/api/v1/nodes/n1", json={"schedulable": True})
    await pass_time(clock, 3_000, n1, n2)
    return first, second, n1, n2


async def test_a_task_is_moved_so_that_one_that_needs_a_whole_node_starts(
    cluster: Service, clock: ManualClock
) -> None:
    one, two, n1, n2 = await two_halves(cluster, clock, checkpoint={})
    whole = await cluster.submit(name="whole", request={"gpus": 2})

    async def look() -> Any:
        seen = [await cluster.task(task["id"]) for task in (one, two)]
        return next((task for task in seen if task["state"] == "stopping"), None)

    moved = await cluster.until(look, "one of them is moved")
    old, new = (n1, n2) if moved["allocations"][0]["node"] == "n1" else (n2, n1)
    assert moved["reason"] == f"moved to {new.name}: makes room for whole"
    assert [slot["node"] for slot in moved["reserved"]] == [new.name]
    why = (await cluster.user.get(f"/api/v1/tasks/{whole['id']}/why")).json()
    assert f"{moved['name']} has to save its work and leave {old.name} first (moved)" in why["text"]
    allocation = await wanted(cluster, old, moved, "stop")
    await old.report(stopped(allocation, cause="moved", checkpoint="saved"))
    assert len((await wanted(cluster, old, whole, "run"))["devices"]) == 2
    assert (await wanted(cluster, new, moved, "run"))["generation"] == 2
    assert "task_moved" in await kinds(cluster, moved)
    assert (await cluster.task(moved["id"]))["failures"] == 0


async def preempted(
    cluster: Service, clock: ManualClock
) -> tuple[Agent, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A node whose one GPU is being left for an urgent task: agent, victim, its allocation, who
    comes."""
    agent = await cluster.join("n1", gpus=1)
    victim, allocation = await start(cluster, agent, name="victim", request={"gpus": 1})
    await pass_time(clock, 3_000, agent)
    urgent = await cluster.submit(name="urgent", priority=10, request={"gpus": 1})
    await reserved(cluster, urgent)
    return agent, victim, allocation, urgent


async def test_a_cancelled_beneficiary_frees_the_room_and_its_victim_stops_all_the_same(
    cluster: Service, clock: ManualClock
) -> None:
    agent, victim, allocation, urgent = await preempted(cluster, clock)
    answer = await cluster.user.post(f"/api/v1/tasks/{urgent['id']}/cancel")
    assert (answer.json()["state"], answer.json()["reserved"]) == ("cancelled", [])
    assert (await cluster.task(victim["id"]))["state"] == "stopping"
    await agent.report(stopped(allocation))
    assert (await wanted(cluster, agent, victim, "run"))["generation"] == 2


async def test_a_more_urgent_task_takes_over_the_reservation(
    cluster: Service, clock: ManualClock
) -> None:
    agent, victim, allocation, urgent = await preempted(cluster, clock)
    top = await cluster.submit(name="top", priority=20, request={"gpus": 1})
    await reserved(cluster, top)
    assert (await cluster.task(urgent["id"]))["reserved"] == []
    await agent.report(stopped(allocation))
    await wanted(cluster, agent, top, "run")
    assert (await cluster.task(victim["id"]))["preemptions"] == 1


@pytest.mark.parametrize("is_silent", [False, True])
async def test_a_reservation_on_a_node_that_takes_nothing_more_is_dropped_and_planned_anew(
    cluster: Service, clock: ManualClock, is_silent: bool
) -> None:
    agent, _, allocation, urgent = await preempted(cluster, clock)
    if is_silent:
        clock.advance(HOUR + 1)
        await (await cluster.take_over(NodesLoop(cluster.context))).tick()
    else:
        await cluster.user.patch("/api/v1/nodes/n1", json={"schedulable": False})
    cluster.context.signals.notify(signals.PLANNING)

    async def dropped() -> bool:
        return not (await cluster.task(urgent["id"]))["reserved"]

    await cluster.until(dropped, "the reservation is dropped")
    assert "task_unreserved" in await kinds(cluster, urgent)
    if not is_silent:
        await agent.report(stopped(allocation))
    other = await cluster.join("n2", gpus=1)
    await wanted(cluster, other, urgent, "run")


async def test_a_victim_that_doesnt_end_doesnt_hold_up_whom_it_was_to_make_room_for(
    cluster: Service, clock: ManualClock
) -> None:
    agent, victim, _, urgent = await preempted(cluster, clock)
    clock.advance(150)  # the grace of 30 s, and 90 s beyond
    await agent.report()
    cluster.context.signals.notify(signals.PLANNING)

    async def dropped() -> bool:
        return not (await cluster.task(urgent["id"]))["reserved"]

    await cluster.until(dropped, "the reservation is dropped")
    other = await cluster.join("n2", gpus=1)
    await wanted(cluster, other, urgent, "run")
    assert (await cluster.task(victim["id"]))["state"] == "stopping"


async def test_a_gang_gives_way_as_a_whole_and_comes_back_as_a_whole(
    cluster: Service, clock: ManualClock
) -> None:
    agents = [await cluster.join(name, gpus=1) for name in ("n1", "n2")]
    gang = await cluster.submit(name="gang", replicas=2, request={"gpus": 1})
    for phase, state_ in (("prepare", "ready"), ("run", "running")):
        for agent in agents:
            allocation = await wanted(cluster, agent, gang, phase)
            await agent.report(state(allocation, state_, port=20_500))
    await pass_time(clock, 3_000, *agents)
    urgent = await cluster.submit(name="urgent", priority=10, request={"gpus": 1})
    await cluster.until_state(gang["id"], "stopping")
    leaving = [await wanted(cluster, agent, gang, "stop") for agent in agents]
    place = (await reserved(cluster, urgent))["reserved"][0]["node"]
    here = 0 if place == "n1" else 1
    await agents[1 - here].report(exited(leaving[1 - here], 1, stopped=True, cause="preempted"))
    assert (await cluster.task(urgent["id"]))["state"] == "pending"
    await agents[here].report(exited(leaving[here], None, signal=9, stopped=True))
    started = await wanted(cluster, agents[here], urgent, "run")
    waits = await cluster.task(gang["id"])
    assert (waits["state"], waits["failures"]) == ("pending", 0)
    await agents[here].report(exited(started))
    for agent in agents:
        assert (await wanted(cluster, agent, gang, "prepare"))["generation"] == 2


async def test_a_task_that_was_done_before_the_stop_reached_it_has_succeeded(
    cluster: Service, clock: ManualClock
) -> None:
    agent, victim, allocation, urgent = await preempted(cluster, clock)
    await agent.report(exited(allocation, 0))
    assert (await cluster.task(victim["id"]))["state"] == "succeeded"
    await wanted(cluster, agent, urgent, "run")


async def test_a_failed_task_is_tried_again_later_and_later(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1", gpus=1)
    task, allocation = await start(cluster, agent, max_restarts=9, restart_delay_seconds=10)
    for failures, seconds in ((1, 10), (2, 20), (3, 40)):
        await agent.report(exited(allocation, 3))
        waits = await cluster.task(task["id"])
        assert (waits["state"], waits["failures"]) == ("pending", failures)
        why = (await cluster.user.get(f"/api/v1/tasks/{task['id']}/why")).json()
        assert "is tried again at" in why["text"]
        clock.advance(seconds - 1)
        other, marker = await start(cluster, agent, name="marker")
        assert (await cluster.task(task["id"]))["state"] == "pending", "a round has passed it over"
        await agent.report(exited(marker))
        clock.advance(1)
        cluster.context.signals.notify(signals.PLANNING)
        allocation = await wanted(cluster, agent, task, "run")
        assert allocation["generation"] == failures + 1
        assert other["id"] != task["id"]


async def test_a_service_that_ends_by_itself_is_started_again(
    cluster: Service, clock: ManualClock
) -> None:
    agent = await cluster.join("n1")
    task, allocation = await start(cluster, agent, kind="service", restart_delay_seconds=0)
    await agent.report(exited(allocation, 0))
    assert (await wanted(cluster, agent, task, "run"))["generation"] == 2
    assert clock.seconds == 0
    assert (await cluster.task(task["id"]))["failures"] == 1


async def test_an_unhealthy_service_and_a_task_that_uses_too_much_have_failed_themselves(
    cluster: Service,
) -> None:
    agent = await cluster.join("n1", gpus=1)
    service_, one = await start(cluster, agent, kind="service", restart_delay_seconds=60)
    batch, two = await start(cluster, agent)
    await agent.report(exited(one, None, signal=15, stopped=True, cause="unhealthy"))
    await agent.report(
        exited(two, None, signal=15, stopped=True, cause="overuse", error="used 3 GiB of 2")
    )
    again, failed = await cluster.task(service_["id"]), await cluster.task(batch["id"])
    assert (again["state"], again["failures"]) == ("pending", 1)
    assert again["not_before"] is not None
    assert failed["state"] == "failed"
    assert failed["allocations"][0]["error"] == "used 3 GiB of 2"
    assert failed["allocations"][0]["stop_cause"] == "overuse"
