"""Live values as a stream: first everything, then what has changed, until the service stops."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.metrics.streams import node_events
from tests.service import ManualClock, Service, rows, running


@pytest.fixture
async def timed(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, ManualClock()) as service:
        yield service


def said(event: bytes) -> dict[str, Any]:
    kind, data = event.decode().strip().split("\n", maxsplit=1)
    assert kind == "event: node"
    return json.loads(data.removeprefix("data: "))


async def test_all_nodes_come_first_and_then_those_that_have_spoken(timed: Service) -> None:
    agents = [await timed.join(name, gpus=1) for name in ("n1", "n2", "n3")]
    now = timed.now_ms()
    await agents[0].measure(host=rows([now], load_1m=[1]))
    events = node_events(timed.context, timed.app.state.telemetry, None)
    assert (await anext(events)).startswith(b":")
    assert [said(await anext(events))["node"] for _ in agents] == ["n1", "n2", "n3"]
    await agents[1].measure(devices=rows([now], of=["SIM-n2-0"], power_watts=[7]))
    news = said(await anext(events))
    assert (news["node"], news["devices"][0]["power_watts"]) == ("n2", 7)
    await events.aclose()


async def test_the_stream_of_one_node_says_nothing_of_others_and_ends_with_the_service(
    timed: Service,
) -> None:
    agents = [await timed.join(name) for name in ("n1", "n2")]
    now = timed.now_ms()
    await agents[0].measure(host=rows([now], load_1m=[1]))
    events = node_events(timed.context, timed.app.state.telemetry, "n2")
    await anext(events)
    assert said(await anext(events))["node"] == "n2"
    await agents[0].measure(host=rows([now + 1], load_1m=[2]))
    await agents[1].measure(host=rows([now], load_1m=[3]))
    assert said(await anext(events))["host"]["load_1m"] == 3
    timed.context.signals.close()
    assert [event async for event in events] == []


async def test_who_asks_for_no_stream_or_an_unknown_node_is_told(timed: Service) -> None:
    live = "/api/v1/telemetry/live"
    assert (await timed.user.get(live)).status_code == 406
    headers = {"Accept": "text/event-stream"}
    for query, status in (("node=nobody", 404), ("node=%00", 422), ("fields=x", 422)):
        answer = await timed.user.get(f"{live}?{query}", headers=headers)
        assert answer.status_code == status
    assert (await timed.client(None).get(live, headers=headers)).status_code == 401
