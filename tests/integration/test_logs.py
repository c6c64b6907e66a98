"""What tasks print: kept in order, bounded, read in pages, followed."""

import asyncio
import base64
from typing import Any

from tests.integration.test_main_path import desired
from tests.service import Agent, Service, exited, running


async def ship(
    agent: Agent, allocation: dict[str, Any], offset: int, data: bytes, *, skipped: bool = False
) -> int:
    answer = await agent.http.post(
        "/agent/v1/logs",
        json={
            "skipped": skipped,
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


async def test_a_gap_is_taken_and_told_and_what_comes_late_changes_nothing(
    service: Service,
) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    allocation = await desired(service, agent, "run")
    assert await ship(agent, allocation, 0, b"one\n") == 4
    assert await ship(agent, allocation, 1_000, b"far\n", skipped=True) == 1_004
    assert await ship(agent, allocation, 1_000, b"far\n", skipped=True) == 1_004, "sent twice"
    assert await ship(agent, allocation, 4, b"two\n") == 1_004, "overtaken by the one that skips"
    assert await ship(agent, allocation, 500, b"mid\n", skipped=True) == 1_004
    assert await ship(agent, allocation, 2_000, b"", skipped=True) == 1_004
    assert await ship(agent, allocation, 1_004, b"end") == 1_007
    page = await read(service, task["id"])
    assert page["text"] == "one\n[... 996 bytes skipped ...]\nfar\nend"
    assert page["skipped"] == [{"offset": 4, "bytes": 996}]
    assert (page["next_offset"], page["end"]) == (1_007, 1_007)
    page = await read(service, task["id"], offset=600, limit=16)
    assert page["text"] == "[... 400 bytes skipped ...]\nfar\nend"
    assert (await read(service, task["id"], limit=16, offset=2))["text"].startswith("e\n[")
    assert (await read(service, task["id"], tail_bytes=16))["text"].endswith("far\nend")


async def test_a_gap_counts_for_nothing_in_what_is_kept(tmp_path: Any) -> None:
    async with running(tmp_path / "home", log_bytes_max=64 * 1024) as service:
        agent = await service.join("n1")
        task = await service.submit()
        allocation = await desired(service, agent, "run")
        await ship(agent, allocation, 0, b"the beginning\n")
        await ship(agent, allocation, 10**9, b"x" * 1_000, skipped=True)
        page = await read(service, task["id"])
        assert (page["start"], page["text"][:13]) == (0, "the beginning")
        assert page["skipped"] == [{"offset": 14, "bytes": 10**9 - 14}]
        for number in range(1, 10):
            await ship(agent, allocation, 10**9 + number * 10_000, b"y" * 10_000, skipped=True)
        page = await read(service, task["id"], limit=1 << 20)
        assert page["start"] == 10**9 + 30_000
        assert page["text"] == "y" * 70_000


async def test_an_offset_that_no_file_has_is_refused(service: Service) -> None:
    agent = await service.join("n1")
    await service.submit()
    allocation = await desired(service, agent, "run")
    form = {"allocation": allocation["id"], "generation": 1, "skipped": True, "data": "eA=="}
    answer = await agent.http.post("/agent/v1/logs", json={**form, "offset": 2**63})
    assert answer.status_code == 422, answer.text


async def test_one_ranks_lines_are_read_wherever_a_page_ends(service: Service) -> None:
    agent = await service.join("n1", gpus=2)
    task = await service.submit(argv=["torchrun", "train.py"], request={"gpus": 2})
    allocation = await desired(service, agent, "run")
    printed = "torchrun\n" + "".join(
        f"[rank0]: gr\u00f6\u00dfe {number}\n[rank1]: half[rank0]: \u20ac\n[rank1]:  {number}\n"
        for number in range(40)
    )
    await ship(agent, allocation, 0, printed.encode())
    expected = "".join(f"gr\u00f6\u00dfe {number}\n\u20ac\n" for number in range(40))
    for limit in (16, 17, 64, 65_536):
        seen, offset = "", 0
        while True:
            page = await read(service, task["id"], rank=0, offset=offset, limit=limit)
            seen += page["text"]
            if page["next_offset"] == offset:
                break
            offset = page["next_offset"]
        assert seen == expected, limit
    page = await read(service, task["id"], rank=1)
    assert page["text"] == "".join(f"half {number}\n" for number in range(40))
    assert (page["replica"], page["rank"]) == (0, 1)
    answer = await service.user.get(f"/api/v1/tasks/{task['id']}/logs?rank=2")
    assert answer.status_code == 404
    assert "its ranks are 0 to 1" in answer.json()["detail"]


async def test_a_rank_of_a_plain_gang_is_a_replica_and_of_a_script_what_its_output_tells(
    service: Service,
) -> None:
    agent = await service.join("n1", gpus=4)
    plain = await service.submit(replicas=2, name="plain")
    page = await read(service, plain["id"], rank=1)
    assert (page["text"], page["replica"]) == ("", 1)
    script = await service.submit(argv=["sh", "run.sh"], request={"gpus": 2}, name="script")
    await service.until_state(script["id"], "starting", "running")
    wanted = await agent.desired(revision=-1)
    allocation = next(one for one in wanted if one["task"] == script["id"])
    assert (await service.user.get(f"/api/v1/tasks/{script['id']}/logs?rank=1")).status_code == 404
    await ship(agent, allocation, 0, b"[rank0]: a\n[rank1]: b\n")
    assert (await read(service, script["id"], rank=1))["text"] == "b\n"


async def test_a_hole_in_a_ranks_file_is_told_in_words(service: Service) -> None:
    agent = await service.join("n1")
    task = await service.submit()
    allocation = await desired(service, agent, "run")
    await ship(agent, allocation, 0, b"[rank0]: " + b"\0" * 100_000 + b"x\n\0\n")
    page = await read(service, task["id"], limit=1 << 20)
    assert page["text"] == "[rank0]: [... 100000 bytes given up on the node ...]x\n\0\n"


async def test_two_places_to_begin_are_one_too_many(service: Service) -> None:
    task = await service.submit()
    answer = await service.user.get(f"/api/v1/tasks/{task['id']}/logs?offset=5&tail_bytes=100")
    assert answer.status_code == 422
    assert "offset or tail_bytes" in answer.text


async def test_the_error_of_the_first_failure_is_shown_and_not_listed(service: Service) -> None:
    agent = await service.join("n1")
    task = await service.submit(replicas=2)
    await service.until_state(task["id"], "starting", "running")
    one, two = sorted(
        (a for a in await agent.desired(revision=-1) if a["task"] == task["id"]),
        key=lambda a: a["gang"]["rank"],
    )
    secondary = {"reason": "peer lost", "error": "Lost: peer", "at_ms": 1_767_225_700_000}
    primary = {"reason": "no", "error": "ValueError: no", "failed_at_ms": 1_767_225_600_000}
    await agent.report(exited(one, 1, **secondary), exited(two, 1, **primary))
    seen = await service.until_state(task["id"], "failed")
    assert (seen["reason"], seen["error"]) == ("replica 1: no", "ValueError: no")
    listed = (await service.user.get("/api/v1/tasks")).json()["items"]
    assert [view["error"] for view in listed] == [""]
