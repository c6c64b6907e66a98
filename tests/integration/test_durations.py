"""Runs are kept as tasks end, forecasts come of them, and a restart forgets nothing."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db.tables import TaskRun
from app.durations import history
from app.loops.durations import DurationLoop
from tests.integration.test_main_path import desired
from tests.service import Agent, ManualClock, Service, exited, running, state

TRAIN = {"argv": ["python", "train.py", "--epochs", "10"], "request": {"gpus": 1}}


def at_ms(service: Service) -> int:
    return service.now_ms()


async def run_task(
    service: Service, agent: Agent, seconds: float, code: int = 0, **spec: Any
) -> str:
    """Submit a task and have it run for so long on the manual clock."""
    task = await service.submit(**{**TRAIN, **spec})
    await attempt(service, agent, seconds, code)
    return task["id"]


async def attempt(
    service: Service, agent: Agent, seconds: float, code: int | None = 0, **end: Any
) -> None:
    allocation = await desired(service, agent, "run")
    started = service.now_ms()
    await agent.report(state(allocation, "running", pid=1, started_at_ms=started))
    service.context.clock.advance(seconds)  # pyright: ignore[reportAttributeAccessIssue]
    await agent.report(exited(allocation, code, at_ms=started + round(seconds * 1000), **end))


async def rows(service: Service) -> list[TaskRun]:
    async with service.context.database.read() as session:
        return list(await session.scalars(select(TaskRun).order_by(TaskRun.task_id)))


async def learned(service: Service) -> None:
    await (await service.take_over(DurationLoop(service.context))).tick()


async def forecast(service: Service, **spec: Any) -> dict[str, Any]:
    answer = await service.user.post("/api/v1/forecast", json={**TRAIN, **spec})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_runs_become_a_forecast_that_a_restart_keeps(
    tmp_path: Path, database_url: str, clock: ManualClock
) -> None:
    async with running(tmp_path / "home", database_url, clock) as service:
        assert (await forecast(service))["source"] == "none"
        agent = await service.join("n1", gpus=1)
        for seconds in (100, 110, 120, 130):
            await run_task(service, agent, seconds)
        assert [(row.outcome, row.seconds) for row in await rows(service)] == [
            ("succeeded", 100), ("succeeded", 110), ("succeeded", 120), ("succeeded", 130),
        ]  # fmt: skip
        await learned(service)
        before = await forecast(service)
        assert (before["source"], before["like"]) == ("history", 4)
        assert 90 < before["seconds_p50"] < 140 < before["seconds_p90"]
        assert before["text"].startswith("4 runs of the very same command; ")
    async with running(tmp_path / "home", database_url, clock) as service:
        await learned(service)
        assert await forecast(service) == before


async def test_a_running_task_is_forecast_from_how_long_it_has_run(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    for seconds in (100, 110, 120, 130):
        await run_task(timed, agent, seconds)
    await learned(timed)
    task = await timed.submit(**TRAIN, name="long")
    allocation = await desired(timed, agent, "run")
    await agent.report(state(allocation, "running", pid=1, started_at_ms=timed.now_ms()))
    timed.context.clock.advance(500)  # pyright: ignore[reportAttributeAccessIssue]
    path = f"/api/v1/tasks/{task['id']}/forecast"
    shown = (await timed.user.get(path)).json()
    assert shown["elapsed_seconds"] == 500
    assert 500 < shown["seconds_p50"] < shown["seconds_p90"]
    assert "it has run 8 min" in shown["text"]
    await agent.report(exited(allocation, at_ms=timed.now_ms()))
    over = (await timed.user.get(path)).json()
    assert (over["seconds_p50"], over["text"]) == (None, "it's over: it ran 8 min")


async def test_a_failure_ends_a_run_and_a_cancellation_cuts_it_off(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await run_task(timed, agent, 60, code=1)
    task = await timed.submit(**TRAIN)
    allocation = await desired(timed, agent, "run")
    await agent.report(state(allocation, "running", pid=1, started_at_ms=timed.now_ms()))
    await timed.user.post(f"/api/v1/tasks/{task['id']}/cancel")
    end_ms = timed.now_ms() + 40_000
    await agent.report(exited(allocation, None, signal=15, stopped=True, at_ms=end_ms))
    assert [(row.outcome, row.seconds) for row in await rows(timed)] == [
        ("failed", 60), ("cancelled", 40),
    ]  # fmt: skip
    async with timed.context.database.read() as session:
        runs = await history.read(session, keep=10, now=timed.context.clock.now())
    assert sorted((run.seconds, run.ended) for run in runs) == [(40, False), (60, True)]


@pytest.mark.parametrize(("checkpoint", "total"), [({}, 105), (None, 75)])
async def test_an_interrupted_attempt_counts_where_a_checkpoint_carries_it_on(
    timed: Service, checkpoint: dict[str, Any] | None, total: float
) -> None:
    agent = await timed.join("n1", gpus=1)
    task = await timed.submit(
        **TRAIN, checkpoint=checkpoint, max_restarts=1, restart_delay_seconds=0
    )
    await attempt(timed, agent, 30, code=1)
    await timed.until_state(task["id"], "starting")
    async with timed.context.database.read() as session:
        carried = await history.carried_seconds(session)
    assert carried == ({task["id"]: 30.0} if checkpoint is not None else {})
    await attempt(timed, agent, 75)
    [row] = await rows(timed)
    assert (row.outcome, row.seconds) == ("succeeded", total)


async def test_a_service_has_no_run_and_no_forecast(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await timed.submit(**TRAIN, kind="service", max_restarts=0)
    await attempt(timed, agent, 10, code=1)
    assert await rows(timed) == []
    found = await forecast(timed, kind="service", duration_seconds=10)
    assert (found["source"], found["seconds_p50"]) == ("none", None)


async def test_calibration_counts_what_ended_within_its_own_forecast(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    path = "/api/v1/forecast/calibration"
    empty = (await timed.user.get(path)).json()
    assert empty == {
        "runs": 0, "within_p50_ratio": None, "within_p90_ratio": None, "unforeseen": 0,
    }  # fmt: skip
    for seconds in (100, 100, 100, 100):
        await run_task(timed, agent, seconds)
    await learned(timed)
    await run_task(timed, agent, 1)
    await run_task(timed, agent, 10_000)
    said = (await timed.user.get(path)).json()
    assert said == {
        "runs": 2, "within_p50_ratio": 0.5, "within_p90_ratio": 0.5, "unforeseen": 4,
    }  # fmt: skip
    assert (await timed.user.get(path, params={"last": 1})).json()["within_p90_ratio"] == 0


async def test_the_oldest_runs_are_dropped_and_unfinished_ones_stay(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    for seconds in (10, 20, 30):
        await run_task(timed, agent, seconds)
    async with timed.context.database.write() as session:
        await history.drop_oldest(session, keep=1)
    assert [row.seconds for row in await rows(timed)] == [30]


async def test_without_history_the_limit_is_all_that_is_known(sqlite_service: Service) -> None:
    found = await forecast(sqlite_service, duration_seconds=7200)
    assert (found["source"], found["like"]) == ("limit", 0)
    assert found["seconds_p50"] == found["seconds_p90"] == pytest.approx(7200)
    assert found["text"] == "no history; taken to run to its limit, 2 h"


async def test_bad_questions_are_refused_with_their_faults(sqlite_service: Service) -> None:
    user = sqlite_service.user
    wrong = await user.post("/api/v1/forecast", json={"argv": [], "replicas": 0})
    assert wrong.status_code == 422
    assert {fault["path"] for fault in wrong.json()["faults"]} == {"argv", "replicas"}
    assert (await user.post("/api/v1/forecast", content=b"[NaN")).status_code == 400
    assert (await user.get("/api/v1/tasks/nobody/forecast")).status_code == 404
    for last in ("0", "-1", "x", "1e9"):
        answer = await user.get("/api/v1/forecast/calibration", params={"last": last})
        assert answer.status_code == 422, last
    nobody = sqlite_service.client(None)
    assert (await nobody.get("/api/v1/forecast/calibration")).status_code == 401
