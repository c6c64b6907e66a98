"""Reports that say nothing new renew the lease and touch no row; events are recorded once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from app.quiet import LISTEN_AGAIN_SECONDS
from tests.service import ManualClock, Service, exited, running, state


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


class Statements:
    """What is said to the database, but for looks at it."""

    def __init__(self, service: Service) -> None:
        self.written: list[str] = []
        engine = service.context.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if not statement.lstrip().upper().startswith("SELECT"):
            self.written.append(statement)


async def test_a_report_without_news_writes_nothing(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report()
    statements = Statements(timed)
    for _ in range(5):
        ack = await agent.report()
        assert ack["lease_seconds"] > 0
        assert not ack["duplicate"]
    updates = [one for one in statements.written if "seq" in one]
    assert updates == []


async def test_news_are_recorded_at_once_among_quiet_reports(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    task = await timed.submit(request={"gpus": 1})
    await timed.until_state(task["id"], "starting")
    [allocation] = await agent.desired()
    for _ in range(2):
        await agent.report(state(allocation, "running", pid=7))
    assert (await timed.task(task["id"]))["state"] == "running"
    for _ in range(2):
        ack = await agent.report(exited(allocation))
        assert ack["settled"] == [allocation["id"]], "an exit is settled however often it's told"
    assert (await timed.task(task["id"]))["state"] == "succeeded"


async def test_a_node_thought_silent_is_greeted_by_a_quiet_report(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report()
    await agent.report()

    async def node_state() -> str:
        return (await timed.user.get("/api/v1/nodes/n1")).json()["state"]

    async def is_unreachable() -> bool:
        return await node_state() == "unreachable"

    clock.advance(60)
    await timed.until(is_unreachable, "n1 is unreachable", "events")
    await agent.report()
    assert await node_state() == "ready"


async def test_now_and_then_a_quiet_report_is_recorded_all_the_same(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    await agent.report()
    clock.advance(LISTEN_AGAIN_SECONDS + 1)
    statements = Statements(timed)
    await agent.report()
    assert any("seq" in one for one in statements.written)


async def test_a_late_report_is_a_duplicate_also_after_quiet_ones(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    late = agent.report_form()
    for _ in range(3):
        await agent.report()
    answer = await agent.http.post("/agent/v1/report", json=late)
    assert answer.json()["duplicate"] is True


def xid(seq: int, code: int, uuid: str | None = "SIM-n1-0") -> dict[str, Any]:
    about = {"at_ms": 1, "kind": "xid", "uuid": uuid, "code": code, "message": f"told of {code}"}
    return {"seq": seq, "event": about}


async def told(service: Service) -> list[str]:
    events = (await service.user.get("/api/v1/events?node=n1")).json()["items"]
    return [one["message"] for one in events if one["kind"] == "device_event"]


async def test_events_are_recorded_once_however_often_they_come(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    first = await agent.report(event_log="log-1", events=[xid(1, 31), xid(2, 43)])
    again = await agent.report(event_log="log-1", events=[xid(1, 31), xid(2, 43), xid(3, 13)])
    assert (first["events_settled"], again["events_settled"]) == (2, 3)
    assert await told(timed) == [
        "GPU 0: told of 31",
        "GPU 0: told of 43",
        "GPU 0: told of 13",
    ]
    await agent.report(event_log="log-2", events=[xid(1, 45, None)])
    assert (await told(timed))[3:] == ["told of 45"]


async def test_events_in_a_report_that_was_overtaken_come_again_and_count_then(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=1)
    late = agent.report_form(event_log="log-1", events=[xid(1, 31)])
    await agent.report()
    answer = (await agent.http.post("/agent/v1/report", json=late)).json()
    assert (answer["duplicate"], answer["events_settled"]) == (True, 0)
    assert await told(timed) == []
    assert (await agent.report(event_log="log-1", events=[xid(1, 31)]))["events_settled"] == 1
    assert await told(timed) == ["GPU 0: told of 31"]
