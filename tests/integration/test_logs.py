"""What tasks print: kept in order, bounded, read in pages, followed."""

import asyncio
import base64
from typing import Any

from tests.integration.test_main_path import desired
from tests.service import Agent, Service, exited, running


async def ship(agent: Agent, allocation: dict[str, Any], offset: int, data: bytes) -> int:
    answer = await agent.http.post(
        "/agent/v1/logs",
        json={
            "allocation": allocation["id"],
            "generation": allocation["generation"],
            "offset": offset,
            "data": base64.b64encode(data).decode(),
        },
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["next_offset"]


async def read(service: Service, task: str, **query: Any) -> dict[str, Any]:
    answer = await service.user.get(f"/api/v1/tasks/{task}/logs", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_chunks_are_kept_once_and_in_order(service: Service) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    allocation = await desired(service, agent, "run")
    assert await ship(agent, allocation, 0, b"one\n") == 4
    assert await ship(agent, allocation, 0, b"one\n") == 4, "sent twice: kept once"
    assert await ship(agent, allocation, 9, b"gap\n") == 4, "a gap is asked for again"
    assert await ship(agent, allocation, 4, b"two\n") == 8
    page = await read(service, task["id"])
    assert (page["text"], page["next_offset"], page["complete"]) == ("one\ntwo\n", 8, False)
    await agent.report(exited(allocation))
    assert (await read(service, task["id"], offset=8))["complete"] is True
    assert (await read(service, task["id"], offset=-4))["text"] == "two\n"


async def test_a_character_cut_at_a_pages_end_is_whole_on_the_next(service: Service) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    allocation = await desired(service, agent, "run")
    text = "ä" * 40
    await ship(agent, allocation, 0, text.encode()[:33])
    await ship(agent, allocation, 33, text.encode()[33:] + b"\xff")
    await agent.report(exited(allocation))
    seen, offset = "", 0
    while True:
        page = await read(service, task["id"], offset=offset, limit=17)
        seen, offset = seen + page["text"], page["next_offset"]
        if page["complete"]:
            break
    assert seen == text + "\N{REPLACEMENT CHARACTER}"


async def test_a_follower_is_woken_by_new_output_and_by_the_end(service: Service) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    allocation = await desired(service, agent, "run")
    waiting = asyncio.create_task(read(service, task["id"], wait=8))
    await ship(agent, allocation, 0, b"hello\n")
    assert (await waiting)["text"] == "hello\n"
    waiting = asyncio.create_task(read(service, task["id"], offset=6, wait=8))
    await agent.report(exited(allocation))
    assert (await waiting)["complete"] is True


async def test_only_the_newest_output_is_kept_beyond_the_bound(tmp_path: Any) -> None:
    async with running(tmp_path / "home", log_bytes_max=64 * 1024) as service:
        agent = await service.join("n1")
        task = await service.submit()
        allocation = await desired(service, agent, "run")
        for number in range(20):
            await ship(agent, allocation, number * 10_000, bytes([65 + number]) * 10_000)
        page = await read(service, task["id"], limit=1 << 20)
        assert page["start"] == page["offset"] == 130_000
        assert len(page["text"]) == 70_000
        assert page["text"].startswith("N")


async def test_a_node_cannot_write_into_another_nodes_output(service: Service) -> None:
    one, two = await service.join("n1", gpus=1), await service.join("n2")
    await service.submit(request={"gpus": 1})
    allocation = await desired(service, one, "run")
    answer = await two.http.post(
        "/agent/v1/logs",
        json={"allocation": allocation["id"], "generation": 1, "offset": 0, "data": ""},
    )
    assert answer.status_code == 403


async def test_a_replica_that_is_not_there_is_a_404_and_one_that_waits_is_empty(
    service: Service,
) -> None:
    task = await service.submit()
    page = await read(service, task["id"])
    assert (page["text"], page["allocation"], page["complete"]) == ("", None, False)
    answer = await service.user.get(f"/api/v1/tasks/{task['id']}/logs?generation=3")
    assert answer.status_code == 404
