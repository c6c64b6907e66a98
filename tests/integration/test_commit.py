"""A plan meets fresh rows: what still holds is committed, what doesn't is planned again."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm.exc import StaleDataError

from app.allocations.states import AllocationState
from app.db.migrate import upgrade
from app.deps import Context, JoinPermit
from app.main import create_app
from app.nodes import service as nodes
from app.planning.commit import Committed, commit
from app.planning.snapshot import Snapshot, take
from app.quarantine import service as quarantines
from app.quarantine.rules import Code
from app.settings import Settings
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol.node import Registration
from protocol.task import Checkpoint, Request, TaskSpec
from solver.pipeline import solve
from solver.problem import Budget
from tests.service import registration

BUDGET = Budget(seconds=5, workers=1, max_moves=0, deterministic=True)


@pytest.fixture
async def ctx(tmp_path: Path, database_url: str) -> AsyncIterator[Context]:
    """The service's rows and rules without its loops: here the test plans and commits by itself."""
    app = create_app(Settings(home=tmp_path / "home", database_url=database_url))
    context: Context = app.state.context
    await upgrade(context.database)
    yield context
    await context.database.close()


async def join(ctx: Context, name: str, gpus: int) -> None:
    form = Registration.model_validate(registration(name, gpus=gpus), strict=False)
    async with ctx.database.write() as session:
        await nodes.register(ctx, session, form, JoinPermit())


async def submit(
    ctx: Context, *, gpus: int = 1, replicas: int = 1, priority: int = 0, **more: Any
) -> str:
    spec = TaskSpec(
        argv=("true",), replicas=replicas, priority=priority, request=Request(gpus=gpus), **more
    )
    async with ctx.database.write() as session:
        task, _ = await tasks.submit(ctx, session, spec, None)
        return task.id


async def snapshot(ctx: Context, *, max_moves: int = 0) -> Snapshot:
    async with ctx.database.read() as session:
        return await take(ctx, session, replace(BUDGET, max_moves=max_moves))


async def commit_plan(ctx: Context, look: Snapshot, plan_id: str = "p-1") -> Committed:
    async with ctx.database.write(plan_commit=True) as session:
        return await commit(
            ctx, session, problem=look.problem, plan=solve(look.problem), plan_id=plan_id
        )


async def state(ctx: Context, task: str) -> str:
    async with ctx.database.read() as session:
        return (await tasks.get(session, task)).state


async def test_the_same_plan_commits_once(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    task = await submit(ctx)
    look = await snapshot(ctx)
    assert (await commit_plan(ctx, look)).placed == [task]
    assert (await commit_plan(ctx, look)).placed == []
    async with ctx.database.read() as session:
        assert len((await tasks.get(session, task)).allocations) == 1


async def test_a_device_taken_meanwhile_is_not_given_a_second_time(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    slow = await submit(ctx)
    old = await snapshot(ctx)
    async with ctx.database.write() as session:
        await tasks.cancel(ctx, session, slow)
    fast = await submit(ctx)
    assert (await commit_plan(ctx, await snapshot(ctx))).placed == [fast]
    stale = await commit_plan(ctx, old, "p-2")
    assert (stale.placed, stale.rejected) == ([], []), "the cancelled task wants nothing any more"
    assert await state(ctx, slow) == "cancelled"


async def test_two_plans_of_one_moment_never_share_a_device(ctx: Context) -> None:
    await join(ctx, "n1", 2)
    first, second = await submit(ctx), await submit(ctx)
    look = await snapshot(ctx)
    only_first = _keep(look, first)
    only_second = _keep(look, second)
    done = [await commit_plan(ctx, only_first, "p-1"), await commit_plan(ctx, only_second, "p-2")]
    async with ctx.database.read() as session:
        held = [
            (allocation.node_id, uuid)
            for task in (first, second)
            for allocation in (await tasks.get(session, task)).allocations
            for uuid in allocation.devices
        ]
    assert len(held) == len(set(held))
    assert done[0].placed == [first]
    assert second in (*done[1].placed, *done[1].rejected)


def _keep(look: Snapshot, task: str) -> Snapshot:
    """The same look at the cluster with only one of the waiting tasks in it."""
    kept = [row for row in look.pending.values() if row.id == task]
    return Snapshot(look.moment, list(look.nodes.values()), kept, BUDGET)


async def test_a_gang_that_lost_one_of_its_devices_is_rejected_as_a_whole(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    await join(ctx, "n2", 1)
    gang = await submit(ctx, replicas=2)
    look = await snapshot(ctx)
    async with ctx.database.write() as session:
        node = await nodes.get(session, "n2")
        node.devices[0].healthy = False
    done = await commit_plan(ctx, look)
    assert (done.placed, done.rejected) == ([], [gang])
    assert await state(ctx, gang) == "pending"


async def test_a_device_quarantined_meanwhile_is_not_given_and_the_other_is(ctx: Context) -> None:
    await join(ctx, "n1", 2)
    both = {await submit(ctx), await submit(ctx)}
    look = await snapshot(ctx)
    async with ctx.database.write() as session:
        place = await quarantines.find_device(session, "n1", "1")
        await quarantines.begin(ctx, session, place, Code.MANUAL, "odd noises")
    done = await commit_plan(ctx, look)
    assert len(done.placed) == 1
    assert {*done.placed, *done.rejected} == both


async def test_a_node_cordoned_meanwhile_gets_nothing_and_the_others_get_theirs(
    ctx: Context,
) -> None:
    await join(ctx, "n1", 1)
    await join(ctx, "n2", 1)
    both = {await submit(ctx), await submit(ctx)}
    look = await snapshot(ctx)
    async with ctx.database.write() as session:
        await nodes.set_schedulable(ctx, session, "n2", schedulable=False)
    done = await commit_plan(ctx, look)
    assert len(done.placed) == 1
    assert {*done.placed, *done.rejected} == both


async def started(ctx: Context, *, hours: float = 1.0, **spec: Any) -> str:
    """A task that has run for so long."""
    task = await submit(ctx, **spec)
    assert (await commit_plan(ctx, await snapshot(ctx))).placed == [task]
    async with ctx.database.write() as session:
        row = await tasks.get(session, task)
        row.state = TaskState.RUNNING
        row.started_at = ctx.clock.now() - timedelta(hours=hours)
        for allocation in row.allocations:
            allocation.state = AllocationState.RUNNING
    return task


async def reserved(ctx: Context, task: str) -> list[str]:
    async with ctx.database.read() as session:
        return [slot["node"] for slot in (await tasks.get(session, task)).reserved or ()]


async def test_nobody_leaves_for_a_task_that_was_cancelled_meanwhile(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    victim = await started(ctx)
    urgent = await submit(ctx, priority=10)
    look = await snapshot(ctx, max_moves=8)
    async with ctx.database.write() as session:
        await tasks.cancel(ctx, session, urgent)
    done = await commit_plan(ctx, look, "p-2")
    assert (done.displaced, done.placed, done.reserved) == ([], [], [])
    assert await state(ctx, victim) == "running"


async def test_nobody_leaves_for_a_gang_that_cannot_be_placed_whole_any_more(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    await join(ctx, "n2", 1)
    victim = await started(ctx)
    gang = await submit(ctx, priority=10, replicas=2)
    look = await snapshot(ctx, max_moves=8)
    async with ctx.database.read() as session:
        [held] = (await tasks.get(session, victim)).allocations
        other = "n2" if held.node.name == "n1" else "n1"
    async with ctx.database.write() as session:
        await nodes.set_schedulable(ctx, session, other, schedulable=False)
    done = await commit_plan(ctx, look, "p-2")
    assert (done.displaced, done.rejected) == ([], [gang])
    assert await state(ctx, victim) == "running"


async def test_a_victim_that_ended_meanwhile_leaves_its_room_at_once(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    victim = await started(ctx)
    urgent = await submit(ctx, priority=10)
    look = await snapshot(ctx, max_moves=8)
    async with ctx.database.write() as session:
        row = await tasks.get(session, victim)
        row.allocations[0].state = AllocationState.SUCCEEDED
        await tasks.settle(ctx, session, row)
    done = await commit_plan(ctx, look, "p-2")
    assert (done.displaced, done.placed, done.reserved) == ([], [urgent], [])


async def test_who_comes_where_somebody_leaves_has_the_room_reserved(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    victim = await started(ctx)
    urgent = await submit(ctx, priority=10)
    look = await snapshot(ctx, max_moves=8)
    done = await commit_plan(ctx, look, "p-2")
    assert (done.displaced, done.placed, done.reserved) == ([victim], [], [urgent])
    assert await reserved(ctx, urgent) == ["n1"]
    again = await commit_plan(ctx, look, "p-3")
    assert (again.displaced, again.placed, again.reserved) == ([], [], [])


async def test_a_task_that_waits_takes_part_only_when_its_time_has_come(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    task = await submit(ctx)
    async with ctx.database.write() as session:
        row = await tasks.get(session, task)
        row.not_before = ctx.clock.now() + timedelta(seconds=100)
    look = await snapshot(ctx)
    assert (list(look.pending), look.problem.tasks) == ([], ())
    assert look.changes_in_seconds == pytest.approx(100, abs=30)


async def test_what_time_does_to_costs_makes_no_new_question(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    running = await started(ctx, hours=1, checkpoint=Checkpoint())
    await submit(ctx, gpus=1)
    first = await snapshot(ctx, max_moves=8)
    async with ctx.database.write() as session:
        row = await tasks.get(session, running)
        row.started_at = ctx.clock.now() - timedelta(hours=9)
        row.spec = {**row.spec, "checkpoint": None, "kind": "service"}
    second = await snapshot(ctx, max_moves=8)
    assert first.problem != second.problem, "it costs something else"
    assert first.question == second.question
    await submit(ctx, gpus=1)
    assert (await snapshot(ctx, max_moves=8)).question != first.question


async def test_forty_submissions_at_once_are_all_kept(ctx: Context) -> None:
    made = await asyncio.gather(*(submit(ctx) for _ in range(40)))
    assert len((await snapshot(ctx)).pending) == len(set(made)) == 40


async def test_a_row_changed_by_somebody_else_is_not_overwritten(ctx: Context) -> None:
    await join(ctx, "n1", 1)
    async with ctx.database.read() as session:
        stale = await nodes.get(session, "n1")
    async with ctx.database.write() as session:
        await nodes.set_schedulable(ctx, session, "n1", schedulable=False)

    async def overwrite() -> None:
        async with ctx.database.write() as session:
            session.add(stale)
            stale.address = "elsewhere"

    with pytest.raises(StaleDataError):
        await overwrite()
