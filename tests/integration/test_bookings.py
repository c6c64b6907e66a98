"""Bookings: what may be booked, who leaves in time, and what a window makes of its nodes."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from app.loops.bookings import BookingLoop
from app.loops.nodes import NodesLoop
from tests.integration.test_node_life import event_messages, node, runs
from tests.service import ManualClock, Service, exited

URL = "/api/v1/bookings"


def at(service: Service, seconds: float) -> str:
    """A moment so far from now on the service's clock."""
    return (service.context.clock.now() + timedelta(seconds=seconds)).isoformat()


async def ask(service: Service, name: str = "new-disk", **form: Any) -> httpx2.Response:
    return await service.user.post(URL, json={"name": name, "nodes": ["n1"], **form})


async def book(service: Service, name: str = "new-disk", **form: Any) -> dict[str, Any]:
    answer = await ask(service, name, **form)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(service: Service, **query: Any) -> list[str]:
    answer = await service.user.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return [f"{one['name']} {one['state']}" for one in answer.json()["items"]]


def faults(answer: httpx2.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {fault["path"]: fault["reason"] for fault in answer.json()["faults"]}


async def test_a_booking_is_made_begins_and_ends(timed: Service, clock: ManualClock) -> None:
    await timed.join("n1", gpus=1)
    await timed.join("n2", gpus=1)
    made = await book(
        timed, nodes=["n2", "n1", "n2"], starts_at=at(timed, 60), duration_seconds=60, reason="x"
    )
    assert (made["state"], made["nodes"], made["queue"]) == ("upcoming", ["n1", "n2"], None)
    assert await listed(timed) == ["new-disk upcoming"]
    clock.advance(60)
    assert await listed(timed) == ["new-disk active"]
    for reference in (made["id"], "new-disk"):
        one = (await timed.user.get(f"{URL}/{reference}")).json()
        assert one == {**made, "state": "active"}
    clock.advance(60)
    assert await listed(timed) == []
    assert await listed(timed, all=True) == ["new-disk over"]
    [said] = await event_messages(timed, "booking_made")
    assert said.startswith("booking new-disk (n1, n2 for maintenance, 2026-01-01 00:01:00 to")
    assert said.endswith("UTC: x) was made")
    clock.advance(31 * 86_400)
    await book(timed, "other", duration_seconds=1)
    assert await listed(timed, all=True) == ["other active"], "the old are forgotten"


async def test_every_fault_of_a_booking_is_named(timed: Service) -> None:
    await timed.join("n1", gpus=1)
    wrong = await ask(
        timed,
        nodes=["n1", "n3"],
        queue="typo",
        starts_at=at(timed, -3600),
        ends_at=at(timed, -3700),
    )
    assert sorted(faults(wrong)) == ["ends_at", "nodes[1]", "queue", "starts_at"]
    assert sorted(faults(await ask(timed))) == ["ends_at"]
    both = await ask(timed, ends_at=at(timed, 60), duration_seconds=60)
    assert faults(both) == {"ends_at": "say when it ends, or how long it lasts: one of the two"}
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2039-01-01T00:00Z"):
        assert faults(await ask(timed, starts_at=moment, duration_seconds=60)), moment
        assert faults(await ask(timed, ends_at=moment)), moment
    for form in (
        {"nodes": [], "duration_seconds": 1},
        {"duration_seconds": 0},
        {"duration_seconds": 1e300},
        {"starts_at": "2026-01-01T00:00:00", "duration_seconds": 1},
        {"starts_at": "tomorrow", "duration_seconds": 1},
        {"duration_seconds": 1, "reason": "\x00"},
        {"duration_seconds": 1, "extra": 1},
    ):
        assert faults(await ask(timed, **form)), form
    assert await listed(timed, all=True) == []
    for cursor in ("!", "AAAA", "OTk5OTk5OTk5OTk5OTk5OTk5OTpi"):
        answer = await timed.user.get(URL, params={"cursor": cursor})
        assert answer.status_code == 422, cursor
    assert (await timed.user.get(f"{URL}/none")).status_code == 404
    assert (await timed.user.delete(f"{URL}/none")).status_code == 404
    assert (await timed.client(None).get(URL)).status_code == 401


async def test_bookings_of_one_node_never_overlap(timed: Service) -> None:
    await timed.join("n1", gpus=1)
    await timed.join("n2", gpus=1)
    await book(timed, "first", starts_at=at(timed, 100), ends_at=at(timed, 200))
    for start, end in ((50, 101), (199, 300), (120, 130), (50, 300)):
        wrong = await ask(
            timed, "x", nodes=["n1", "n2"], starts_at=at(timed, start), ends_at=at(timed, end)
        )
        assert "booking first (n1 for maintenance" in faults(wrong)["nodes"]
    await book(timed, "before", starts_at=at(timed, 50), ends_at=at(timed, 100))
    await book(timed, "after", starts_at=at(timed, 200), ends_at=at(timed, 300))
    await book(timed, "beside", nodes=["n2"], starts_at=at(timed, 100), ends_at=at(timed, 200))
    names = [name.split()[0] for name in await listed(timed)]
    assert names == ["before", "first", "beside", "after"]
    page = (await timed.user.get(URL, params={"limit": 2})).json()
    rest = await listed(timed, cursor=page["next_cursor"])
    assert [name.split()[0] for name in rest] == names[2:]


async def test_of_many_who_book_at_once_one_has_the_node(service: Service) -> None:
    await service.join("n1", gpus=1)
    answers = await asyncio.gather(*(ask(service, f"b{i}", duration_seconds=60) for i in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, *[422] * 5]


async def test_the_same_request_twice_is_one_booking(timed: Service, clock: ManualClock) -> None:
    await timed.join("n1", gpus=1)
    form = {"starts_at": at(timed, 100), "duration_seconds": 60}
    made = await book(timed, **form)
    again = await ask(timed, **form)
    assert (again.status_code, again.json()) == (200, made)
    assert (await ask(timed, **{**form, "duration_seconds": 61})).status_code == 409
    clock.advance(159)
    assert (await ask(timed, **form)).status_code == 200
    clock.advance(1)
    later = {"starts_at": at(timed, 100), "duration_seconds": 60}
    assert (await book(timed, **later))["id"] != made["id"], "the name is free again"
    await timed.user.delete(f"{URL}/new-disk")
    now = await book(timed, duration_seconds=60)
    clock.advance(5)
    assert (await ask(timed, duration_seconds=60)).json() == now


async def test_who_may_be_preempted_leaves_early_enough_to_have_stopped(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    agent = await timed.join("n1", gpus=2)
    patient, _ = await runs(timed, agent, grace_seconds=100)
    quick, _ = await runs(timed, agent, grace_seconds=10)
    await book(timed, starts_at=at(timed, 1000), duration_seconds=60, reason="new disk")
    assert await loop.tick() == 60
    clock.advance(899)
    assert await loop.tick() == 1
    assert (await timed.task(patient))["state"] == "running"
    clock.advance(1)
    await loop.tick()
    assert (await timed.task(patient))["state"] == "stopping"
    assert (await timed.task(quick))["state"] == "running"
    clock.advance(90)
    await loop.tick()
    assert (await timed.task(quick))["state"] == "stopping"
    for wanted in await agent.desired():
        assert (wanted["phase"], wanted["stop"]["cause"]) == ("stop", "drained")
        assert wanted["stop"]["reason"] == "booking new-disk: new disk"


async def test_who_may_not_be_preempted_has_until_the_start(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    task, _ = await runs(timed, agent, preemptible=False, grace_seconds=100)
    await book(timed, starts_at=at(timed, 1000), duration_seconds=60)
    clock.advance(999)
    assert await loop.tick() == 1
    assert (await timed.task(task))["state"] == "running"
    clock.advance(1)
    await loop.tick()
    assert (await timed.task(task))["state"] == "stopping"


async def test_tasks_of_the_bookings_queue_and_those_below_stay(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    await timed.user.post("/api/v1/queues", json={"name": "ml"})
    await timed.user.post("/api/v1/queues", json={"name": "nlp", "parent": "ml"})
    agent = await timed.join("n1", gpus=3)
    mine, _ = await runs(timed, agent, queue="ml")
    below, _ = await runs(timed, agent, queue="nlp")
    other, _ = await runs(timed, agent)
    await book(timed, queue="ml", duration_seconds=60)
    await loop.tick()
    states = [(await timed.task(task))["state"] for task in (mine, below, other)]
    assert states == ["running", "running", "stopping"]
    assert (await node(timed, "n1"))["maintenance_since"] is None


async def test_a_node_that_nobody_has_may_be_silent_until_its_window_is_over(
    timed: Service, clock: ManualClock
) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    nodes = await timed.take_over(NodesLoop(timed.context))
    agent = await timed.join("n1", gpus=1)
    await agent.report()
    made = await book(timed, duration_seconds=1_000)
    await loop.tick()
    view = await node(timed, "n1")
    assert datetime.fromisoformat(view["maintenance_since"]) == datetime.fromisoformat(
        made["starts_at"]
    )
    assert view["schedulable"] is True
    clock.advance(900)
    await nodes.tick()
    assert (await node(timed, "n1"))["state"] == "lost"
    assert await event_messages(timed, "node_lost") == []
    clock.advance(100)
    await loop.tick()
    assert (await node(timed, "n1"))["maintenance_since"] is None
    assert await event_messages(timed, "node_maintenance") == ["booking new-disk begins"]
    assert await event_messages(timed, "node_uncordoned") == ["its booking is over"]


@pytest.mark.parametrize("begun", [True, False])
async def test_ending_a_booking_gives_its_nodes_back(
    timed: Service, clock: ManualClock, begun: bool
) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    await timed.join("n1", gpus=1)
    await book(timed, starts_at=at(timed, 10), duration_seconds=1_000)
    clock.advance(20 if begun else 0)
    await loop.tick()
    assert (await timed.user.delete(f"{URL}/new-disk")).status_code == 204
    await loop.tick()
    assert (await node(timed, "n1"))["maintenance_since"] is None
    assert await listed(timed, all=True) == (["new-disk over"] if begun else [])
    assert (await timed.user.delete(f"{URL}/new-disk")).status_code == (204 if begun else 404)
    assert len(await event_messages(timed, "booking_ended")) == 1


async def test_maintenance_by_hand_outlives_a_window(timed: Service, clock: ManualClock) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    await timed.join("n1", gpus=1)
    await book(timed, duration_seconds=100)
    await loop.tick()
    form = {"deadline_seconds": 0, "reason": "it takes longer"}
    await timed.user.post("/api/v1/nodes/n1/maintenance", json=form)
    clock.advance(100)
    await loop.tick()
    assert (await node(timed, "n1"))["maintenance_since"] is not None
    await timed.user.patch("/api/v1/nodes/n1", json={"schedulable": True})
    assert (await node(timed, "n1"))["maintenance_since"] is None


async def test_a_gang_leaves_with_its_replica_on_a_booked_node(timed: Service) -> None:
    loop = await timed.take_over(BookingLoop(timed.context))
    agents = [await timed.join(name, gpus=1) for name in ("n1", "n2")]
    task = await timed.submit(replicas=2, spread_over="node", request={"gpus": 1})
    await timed.until_state(task["id"], "starting")
    await book(timed, duration_seconds=60)
    await loop.tick()
    for agent in agents:
        [wanted] = await agent.desired()
        assert wanted["phase"] == "stop"
        await agent.report(exited(wanted, None, stopped=True, cause="drained"))
    waiting = await timed.until_state(task["id"], "pending")
    assert "booking new-disk" in waiting["reason"]
