"""What programs tell of themselves, from a node's report to the views of their tasks."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import Agent, ManualClock, Service, exited, running, state


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


def told(allocation: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": allocation["id"], "generation": allocation["generation"], **more}


async def started(service: Service, agent: Agent, **spec: Any) -> tuple[str, dict[str, Any]]:
    """A task of one replica that runs, and its allocation as the node has it."""
    task = (await service.submit(**spec))["id"]
    await service.until_state(task, "starting")
    [allocation] = [one for one in await agent.desired() if one["task"] == task]
    await agent.report(state(allocation, "running", pid=7))
    return task, allocation


async def test_the_newest_word_of_a_program_is_shown_with_its_age(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    task, allocation = await started(timed, agent, request={"gpus": 1})
    assert (await timed.task(task))["progress"] is None
    saved_at_ms = timed.now_ms()
    for step in (1100, 1200):
        word = told(
            allocation,
            step=step,
            steps=5000,
            checkpoint_step=1000,
            checkpoint_at_ms=saved_at_ms,
            checkpoint_seconds=6.5,
        )
        await agent.report(state(allocation, "running", pid=7), progress=[word])
    clock.advance(180)
    seen = await timed.task(task)
    assert seen["progress"] == {
        "step": 1200,
        "steps": 5000,
        "checkpoint_step": 1000,
        "checkpoint_at": "2026-01-01T00:00:00Z",
        "checkpoint_age_seconds": 180.0,
        "checkpoint_seconds": 6.5,
    }
    assert seen["allocations"][0]["progress"] == seen["progress"]
    [listed] = (await timed.user.get("/api/v1/tasks")).json()["items"]
    assert listed["progress"] == seen["progress"]


async def test_a_node_that_stops_telling_is_not_quoted_any_more(timed: Service) -> None:
    agent = await timed.join("n1")
    task, allocation = await started(timed, agent)
    running_ = state(allocation, "running", pid=7)
    await agent.report(running_, progress=[told(allocation, step=1)])
    assert (await timed.task(task))["progress"]["step"] == 1
    await agent.report(running_)
    assert (await timed.task(task))["progress"] is None


async def test_a_node_cannot_tell_of_another_nodes_task(timed: Service) -> None:
    one, two = await timed.join("n1", gpus=1), await timed.join("n2", gpus=1)
    task, allocation = await started(timed, one, request={"gpus": 1}, node_selector={})
    node = (await timed.task(task))["allocations"][0]["node"]
    owner, other = (one, two) if node == "n1" else (two, one)
    running_ = state(allocation, "running", pid=7)
    await owner.report(running_, progress=[told(allocation, step=5)])
    for _ in range(2):  # the first is recorded, the second is quiet
        await other.report(running_, progress=[told(allocation, step=9)])
        await other.report(progress=[told(allocation, step=9)])
        assert (await timed.task(task))["progress"]["step"] == 5
    await other.report(running_)
    assert (await timed.task(task))["progress"]["step"] == 5, "nor silence it"


async def test_a_late_report_does_not_turn_the_count_back(timed: Service) -> None:
    agent = await timed.join("n1")
    task, allocation = await started(timed, agent)
    running_ = state(allocation, "running", pid=7)
    late = agent.report_form(running_, progress=[told(allocation, step=1)])
    await agent.report(running_, progress=[told(allocation, step=2)])
    answer = await agent.http.post("/agent/v1/report", json=late)
    assert answer.status_code == 200
    assert (await timed.task(task))["progress"]["step"] == 2


async def test_an_earlier_attempts_word_counts_for_nothing(timed: Service) -> None:
    agent = await timed.join("n1")
    task, allocation = await started(timed, agent)
    stale = {**told(allocation, step=3), "generation": allocation["generation"] + 1}
    await agent.report(state(allocation, "running", pid=7), progress=[stale])
    assert (await timed.task(task))["progress"] is None


async def test_what_is_over_has_no_progress(timed: Service) -> None:
    agent = await timed.join("n1")
    task, allocation = await started(timed, agent)
    await agent.report(state(allocation, "running", pid=7), progress=[told(allocation, step=3)])
    await agent.report(exited(allocation), progress=[told(allocation, step=4)])
    seen = await timed.task(task)
    assert (seen["state"], seen["progress"]) == ("succeeded", None)


@pytest.mark.parametrize(
    "word",
    [{"step": -1}, {"step": "1"}, {"checkpoint_seconds": -0.5}, {"loss": 1.0}, {"step": 2**53 + 1}],
)
async def test_a_word_that_is_no_progress_is_refused_with_its_place(
    timed: Service, word: dict[str, Any]
) -> None:
    agent = await timed.join("n1")
    form = agent.report_form(progress=[{"id": "a1", "generation": 1, **word}])
    answer = await agent.http.post("/agent/v1/report", json=form)
    assert answer.status_code == 422
    [name] = word
    assert f"progress[0].{name}" in answer.text


async def test_a_checkpoint_time_far_off_is_pinned_to_what_can_be_shown(timed: Service) -> None:
    agent = await timed.join("n1")
    task, allocation = await started(timed, agent)
    word = told(allocation, step=1, checkpoint_at_ms=2**53)
    await agent.report(state(allocation, "running", pid=7), progress=[word])
    seen = (await timed.task(task))["progress"]
    assert seen["checkpoint_at"].startswith("9999-12-31")
    assert seen["checkpoint_age_seconds"] == 0.0


async def test_a_gang_shows_its_first_ranks_step_and_its_newest_checkpoint(timed: Service) -> None:
    agent = await timed.join("n1", gpus=2)
    task = (await timed.submit(replicas=2, request={"gpus": 1}))["id"]
    await timed.until_state(task, "starting")
    replicas = await agent.desired()
    await agent.report(*(state(one, "ready", port=20_000 + n) for n, one in enumerate(replicas)))
    ranked = sorted(replicas, key=lambda one: one["gang"]["rank"])
    words = [
        told(ranked[0], step=50, steps=100),
        told(ranked[1], step=49, checkpoint_step=40, checkpoint_at_ms=timed.now_ms()),
    ]
    await agent.report(*(state(one, "running", pid=7) for one in replicas), progress=words)
    seen = (await timed.task(task))["progress"]
    assert (seen["step"], seen["steps"], seen["checkpoint_step"]) == (50, 100, 40)
