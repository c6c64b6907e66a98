"""A quarantined device takes no new task; what runs there stays."""

import asyncio
from typing import Any

from tests.integration.test_main_path import desired
from tests.service import Agent, Service, exited, state


async def listed(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = await service.user.get("/api/v1/quarantines", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def keep_off(
    service: Service, node: str, device: str, reason: str = "odd noises"
) -> dict[str, Any]:
    form = {"node": node, "device": device, "reason": reason}
    answer = await service.user.post("/api/v1/quarantines", json=form)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def release(service: Service, quarantine: int) -> dict[str, Any]:
    answer = await service.user.post(f"/api/v1/quarantines/{quarantine}/release")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def device(service: Service, index: int = 0, node: str = "n1") -> dict[str, Any]:
    return (await service.user.get(f"/api/v1/nodes/{node}")).json()["devices"][index]


async def happened(service: Service, *kinds: str) -> list[str]:
    events = (await service.user.get("/api/v1/events?limit=1000")).json()["items"]
    return [event["message"] for event in events if event["kind"] in kinds]


def told(number: int, kind: str, *, uuid: str | None = "SIM-n1-0", **more: Any) -> dict[str, Any]:
    return {"seq": number, "event": {"at_ms": 0, "kind": kind, "uuid": uuid, **more}}


async def tell(agent: Agent, *events: dict[str, Any]) -> None:
    await agent.report(event_log="log-1", events=list(events))


async def test_a_task_waits_for_a_quarantined_device_and_starts_when_it_is_released(
    service: Service,
) -> None:
    agent = await service.join("n1", gpus=1)
    one = await keep_off(service, "n1", "0")
    assert (one["code"], one["by_rule"], one["uuid"]) == ("manual", False, "SIM-n1-0")
    seen = await device(service)
    assert (seen["healthy"], seen["fault"]) == (False, "quarantined: odd noises")
    task = await service.submit(request={"gpus": 1})
    why = await service.until_waiting(task["id"])
    assert [reason["code"] for reason in why["reasons"]] == ["unschedulable_nodes"]
    assert "too few healthy devices" in why["text"]
    ended = await release(service, one["id"])
    assert ended["release_reason"] == "released by a user"
    await desired(service, agent, "run")
    assert (await device(service))["healthy"] is True
    assert len(await happened(service, "device_quarantined", "device_released")) == 2


async def test_what_runs_on_a_quarantined_device_stays(service: Service) -> None:
    agent = await service.join("n1", gpus=2)
    task = await service.submit(request={"gpus": 2})
    allocation = await desired(service, agent, "run")
    await agent.report(state(allocation, "running", pid=1))
    await keep_off(service, "n1", "SIM-n1-0")
    waiting = await service.submit(request={"gpus": 1})
    await service.until_waiting(waiting["id"])
    assert (await service.task(task["id"]))["state"] == "running"
    await agent.report(exited(allocation))
    placed = await service.until_state(waiting["id"], "starting", "running")
    assert placed["allocations"][0]["devices"][0]["uuid"] == "SIM-n1-1"


async def test_the_same_word_twice_is_one_quarantine(service: Service) -> None:
    await service.join("n1", gpus=1)
    first = await keep_off(service, "n1", "0")
    again = await keep_off(service, "n1", "SIM-n1-0", "another reason")
    assert again == first
    await release(service, first["id"])
    assert await release(service, first["id"]) == await release(service, first["id"])
    assert len(await happened(service, "device_released")) == 1
    assert await listed(service) == []
    assert [one["id"] for one in await listed(service, all=True)] == [first["id"]]


async def test_many_who_say_it_at_once_make_one_quarantine(service: Service) -> None:
    await service.join("n1", gpus=1)
    said = await asyncio.gather(*(keep_off(service, "n1", "0") for _ in range(8)))
    assert len({one["id"] for one in said}) == 1
    await asyncio.gather(*(release(service, said[0]["id"]) for _ in range(8)))
    assert len(await happened(service, "device_quarantined", "device_released")) == 2


async def test_the_list_is_paged_newest_first(service: Service) -> None:
    await service.join("n1", gpus=5)
    ids = [(await keep_off(service, "n1", str(index)))["id"] for index in range(5)]
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await service.user.get("/api/v1/quarantines", params=query)).json()
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == ids[::-1]


async def test_what_is_not_there_and_what_is_no_form_is_a_4xx(service: Service) -> None:
    await service.join("n1", gpus=1)
    url = "/api/v1/quarantines"
    for form, status in (
        ({"node": "n2", "device": "0", "reason": "x"}, 404),
        ({"node": "n1", "device": "7", "reason": "x"}, 404),
        ({"node": "n1\x00", "device": "0", "reason": "x"}, 422),
        ({"node": "n1", "device": "0", "reason": ""}, 422),
        ({"node": "n1", "device": 0, "reason": "x"}, 422),
        ({"node": "n1", "device": "0"}, 422),
    ):
        assert (await service.user.post(url, json=form)).status_code == status, form
    for number in (1, 2**53):
        assert (await service.user.post(f"{url}/{number}/release")).status_code == 404
    assert (await service.user.post(f"{url}/{2**70}/release")).status_code == 422
    for cursor in ("!", "AAAA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        assert (await service.user.get(url, params={"cursor": cursor})).status_code == 422
    assert (await service.client(None).get(url)).status_code == 401


async def test_a_hardware_xid_keeps_tasks_off_and_a_programs_mistake_does_not(
    service: Service,
) -> None:
    agent = await service.join("n1", gpus=2)
    await tell(agent, told(1, "xid", code=31))
    assert await listed(service) == []
    await tell(agent, told(1, "xid", code=31), told(2, "xid", code=79))
    [one] = await listed(service)
    assert (one["uuid"], one["code"], one["by_rule"]) == ("SIM-n1-0", "xid", True)
    assert one["reason"].startswith("Xid 79")
    await tell(agent, told(2, "xid", code=79), told(3, "xid", code=48))
    await tell(
        agent, told(4, "xid", code=79, uuid="SIM-elsewhere-0"), told(5, "xid", code=79, uuid=None)
    )
    assert await listed(service) == [one], "one a device and code, and of its own devices"


async def test_the_nodes_word_that_a_device_recovered_ends_an_xid_until_it_comes_too_often(
    service: Service,
) -> None:
    agent = await service.join("n1", gpus=1)
    for round_ in range(2):
        await tell(agent, told(2 * round_ + 1, "xid", code=79))
        assert len(await listed(service)) == 1
        await tell(agent, told(2 * round_ + 2, "recovered"))
        assert await listed(service) == []
    await tell(agent, told(5, "xid", code=79))
    await tell(agent, told(6, "recovered"))
    [one] = await listed(service)
    assert one["by_rule"] is False, "the third time within a day a person ends it"
    await release(service, one["id"])
    assert await listed(service) == []


async def test_a_persons_word_outlives_the_rules(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    one = await keep_off(service, "n1", "0")
    await tell(agent, told(1, "xid", code=79))
    assert len(await listed(service)) == 2
    await tell(agent, told(2, "recovered"))
    assert await listed(service) == [one]
    assert (await device(service))["healthy"] is False
    [said] = await happened(service, "device_released")
    assert "stays quarantined for other reasons" in said
