"""Join tokens: how often they count, for how long, and what is said when they don't."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.db.tables import JoinToken
from tests.service import Agent, ManualClock, Service, registration, running


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def create(service: Service, **form: Any) -> dict[str, Any]:
    answer = await service.user.post("/api/v1/join-tokens", json=form)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(service: Service) -> list[dict[str, Any]]:
    return (await service.user.get("/api/v1/join-tokens")).json()["items"]


async def join(service: Service, token: str, name: str, boot_id: str = "") -> httpx2.Response:
    form = registration(name)
    form["inventory"]["host"]["boot_id"] = boot_id or f"boot-of-{name}"
    async with service.client(token) as http:
        return await http.post("/agent/v1/register", json=form)


async def test_a_token_of_one_use_lets_one_node_join(timed: Service) -> None:
    made = await create(timed)
    assert (made["uses_left"], made["usable"]) == (1, True)
    joined = await join(timed, made["token"], "n1")
    assert joined.status_code == 200, joined.text
    assert joined.json()["token"] not in {None, made["token"]}
    again = await join(timed, made["token"], "n2")
    assert again.status_code == 401
    assert "used up" in again.json()["detail"]
    assert "stowplan join-token create" in again.json()["detail"]
    [seen] = await listed(timed)
    assert (seen["uses_left"], seen["usable"], seen["last_node"]) == (0, False, "n1")
    assert "token" not in seen
    assert (await timed.user.get("/api/v1/nodes/n2")).status_code == 404


async def test_of_many_that_join_at_once_one_wins(timed: Service) -> None:
    token = (await create(timed))["token"]
    answers = await asyncio.gather(*(join(timed, token, f"n{number}") for number in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    assert len((await timed.user.get("/api/v1/nodes")).json()["items"]) == 1


async def test_of_machines_of_one_name_that_join_at_once_one_wins(timed: Service) -> None:
    token = (await create(timed, uses=8))["token"]
    answers = await asyncio.gather(
        *(join(timed, token, "n1", boot_id=f"boot-{number}") for number in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert [one["uses_left"] for one in await listed(timed)] == [7], "who is refused uses nothing"


async def test_a_token_expires(timed: Service, clock: ManualClock) -> None:
    token = (await create(timed, uses=5, hours=2))["token"]
    assert (await join(timed, token, "n1")).status_code == 200
    clock.advance(2 * 3_600)
    late = await join(timed, token, "n2")
    assert late.status_code == 401
    assert "expired at 2026-01-01 02:00 UTC" in late.json()["detail"]
    assert (await listed(timed))[0]["usable"] is False


async def test_a_revoked_token_is_unknown_and_its_nodes_stay(timed: Service) -> None:
    made = await create(timed, uses=5)
    agent = Agent(timed, "n1")
    agent.http = timed.client(made["token"])
    await agent.register()
    gone = await timed.user.delete(f"/api/v1/join-tokens/{made['id']}")
    assert gone.status_code == 204
    assert (await join(timed, made["token"], "n2")).status_code == 401
    await agent.report()
    assert (await timed.user.delete(f"/api/v1/join-tokens/{made['id']}")).status_code == 404
    assert await listed(timed) == []


async def test_a_machine_whose_answer_was_lost_joins_again_until_it_has_spoken(
    timed: Service,
) -> None:
    token = (await create(timed))["token"]
    lost = (await join(timed, token, "n1", boot_id="boot-1")).json()["token"]
    again = await join(timed, token, "n1", boot_id="boot-1")
    assert again.status_code == 200
    agent = Agent(timed, "n1")
    agent.http = timed.client(lost)
    refused = await agent.http.post("/agent/v1/report", json=agent.report_form())
    assert refused.status_code == 401, "the token that went astray is void"
    assert (await join(timed, token, "n1", boot_id="boot-of-another")).status_code == 401
    agent.http = timed.client(again.json()["token"])
    await agent.report()
    assert (await join(timed, token, "n1", boot_id="boot-1")).status_code == 401


async def test_only_a_digest_is_kept(timed: Service) -> None:
    token = (await create(timed))["token"]
    async with timed.context.database.read() as session:
        [row] = await session.scalars(select(JoinToken))
    assert token not in {str(value) for value in vars(row).values()}
    assert token.startswith("stow_join_")


async def test_a_join_token_opens_nothing_else(timed: Service) -> None:
    token = (await create(timed))["token"]
    async with timed.client(token) as http:
        assert (await http.get("/api/v1/nodes")).status_code in {401, 403}
        assert (await http.post("/api/v1/join-tokens", json={})).status_code in {401, 403}
        assert (await http.get("/agent/v1/desired")).status_code in {401, 403}


async def test_bad_requests_are_named(timed: Service) -> None:
    for form, path in (
        ({"uses": 0}, "uses"),
        ({"uses": "2"}, "uses"),
        ({"hours": 0}, "hours"),
        ({"hours": 1e9}, "hours"),
        ({"days": 1}, "days"),
    ):
        answer = await timed.user.post("/api/v1/join-tokens", json=form)
        assert answer.status_code == 422, form
        assert [fault["path"] for fault in answer.json()["faults"]] == [path]
    assert (await timed.user.delete("/api/v1/join-tokens/nosuch")).status_code == 404


async def test_the_permanent_token_can_be_switched_off(tmp_path: Path) -> None:
    async with running(tmp_path / "home", reusable_join_token=False) as service:
        refused = await join(service, "join-token-of-the-tests", "n1")
        assert refused.status_code == 401
        assert "stowplan join-token create" in refused.json()["detail"]
        token = (await create(service))["token"]
        assert (await join(service, token, "n1")).status_code == 200
