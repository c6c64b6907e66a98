"""Whatever comes, ends and is called off: nothing is ever held twice, nobody gives way to an equal,
and the moving stops when the news does."""

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from app.allocations.states import AllocationState
from app.db.migrate import upgrade
from app.db.tables import Allocation, Event, Node, Task
from app.deps import Context, JoinPermit, NodePrincipal
from app.events.service import EventKind
from app.leases.service import apply_report
from app.main import create_app
from app.nodes import service as nodes
from app.planning.documents import answer_bytes, parse_problem
from app.planning.questions import QUESTIONS, SOLVE
from app.planning.service import Planner
from app.planning.snapshot import take
from app.settings import Settings
from app.tasks import service as tasks
from app.tasks.states import TaskState
from protocol import VERSION
from protocol import report as wire
from protocol.desired import Phase
from protocol.node import Registration
from protocol.task import Checkpoint, Request, TaskSpec
from solver.check import slot_violations
from solver.pipeline import solve
from solver.problem import Budget
from tests.service import ManualClock, registration

NODES, GPUS, CPU_MILLI = 3, 4, 8_000
BUDGET = Budget(max_moves=8)


class SameProcess:
    """Answers at once and always the same."""

    async def solve(self, problem: bytes, budget_seconds: float, question: str = SOLVE) -> bytes:
        if question != SOLVE:
            kind = QUESTIONS[question]
            return answer_bytes(kind.solve(kind.read(problem), lambda: 0.0))
        asked = parse_problem(problem)
        budget = replace(asked.budget, seconds=min(budget_seconds, 1.0), deterministic=True)
        return answer_bytes(solve(asked.with_budget(budget)))


class World:
    """A service without its loops, and nodes that do as they are told, sooner or later."""

    def __init__(self, ctx: Context, clock: ManualClock, seed: int) -> None:
        self.ctx = ctx
        self.clock = clock
        self.random = random.Random(seed)
        self.planner = Planner(ctx, SameProcess())
        self.seq = 0
        self.principals: dict[int, NodePrincipal] = {}

    async def join(self, name: str) -> None:
        form = Registration.model_validate(
            registration(name, gpus=GPUS, cpu_milli=CPU_MILLI), strict=False
        )
        async with self.ctx.database.write() as session:
            await nodes.register(self.ctx, session, form, JoinPermit())
            row = await nodes.get(session, name)
            self.principals[row.id] = NodePrincipal(id=row.id, name=name)

    async def submit(self) -> None:
        pick = self.random
        share = pick.random() < 0.2
        spec = TaskSpec(
            argv=("true",),
            priority=pick.choice((0, 0, 10, 20)),
            replicas=1 if share else pick.choice((1, 1, 1, 2)),
            request=Request(
                gpus=1 if share else pick.choice((1, 2, 3, 4)),
                gpu_milli=pick.choice((250, 500)) if share else 1000,
                cpu_milli=pick.choice((0, 500, 2_000)),
            ),
            checkpoint=pick.choice((None, Checkpoint())),
            preemptible=pick.random() < 0.9,
        )
        async with self.ctx.database.write() as session:
            await tasks.submit(self.ctx, session, spec, None)

    async def cancel_one(self) -> None:
        async with self.ctx.database.write() as session:
            rows = await tasks.unfinished(session)
            if rows:
                await tasks.cancel(self.ctx, session, self.random.choice(rows).id)

    async def live(self) -> list[Allocation]:
        async with self.ctx.database.read() as session:
            query = select(Allocation).options(selectinload(Allocation.task))
            rows = (await session.scalars(query.order_by(Allocation.id))).all()
            return [row for row in rows if not AllocationState(row.state).final]

    async def act(self, *, obey: float, end: float = 0.0) -> None:
        """Each node's agent does what it's told with a probability, and reports."""
        for row in await self.live():
            if row.phase == Phase.STOP:
                if self.random.random() < obey:
                    await self._report(row, wire.AllocationState.EXITED, stopped=True)
            elif row.phase == Phase.PREPARE:
                await self._report(row, wire.AllocationState.READY)
            elif row.state != AllocationState.RUNNING:
                await self._report(row, wire.AllocationState.RUNNING)
            elif self.random.random() < end:
                await self._report(row, wire.AllocationState.EXITED)

    async def _report(
        self, row: Allocation, state: wire.AllocationState, *, stopped: bool = False
    ) -> None:
        over = state is wire.AllocationState.EXITED
        self.seq += 1
        principal = self.principals[row.node_id]
        said = wire.AllocationReport(
            id=row.id,
            generation=row.generation,
            state=state,
            exit=wire.Exit(code=0, stopped=stopped, at_ms=0) if over else None,
        )
        form = wire.Report(
            version=VERSION,
            node=principal.name,
            boot_id="boot-1",
            epoch="epoch-1",
            seq=self.seq,
            sent_at_ms=0,
            allocations=(said,),
        )
        async with self.ctx.database.write() as session:
            await apply_report(self.ctx, session, principal, form)

    async def check(self) -> None:
        """What has to be so at every moment."""
        held: Counter[str] = Counter()
        cpu: Counter[int] = Counter()
        for row in await self.live():
            request = row.task.spec["request"]
            cpu[row.node_id] += request["cpu_milli"]
            for uuid in row.devices:
                held[uuid] += request["gpu_milli"]
        assert max(held.values(), default=0) <= 1000, f"held twice: {held}"
        assert max(cpu.values(), default=0) <= CPU_MILLI
        async with self.ctx.database.read() as session:
            look = await take(self.ctx, session, BUDGET)
            preempted = (
                await session.scalars(
                    select(Event.message).where(Event.kind == EventKind.TASK_PREEMPTED)
                )
            ).all()
        later = {task.id: task.placed for task in look.problem.tasks if task.placed}
        empty = [replace(task, placed=()) for task in look.problem.tasks]
        world = replace(look.problem, tasks=tuple(empty))
        broken = [v for v in slot_violations(world, later) if v.rule in {"C3", "C4", "C5"}]
        assert not broken, f"what is reserved and what stays fit together: {broken}"
        for message in preempted:
            over = re.search(r"priority (-?\d+) over (-?\d+)", message)
            assert over is not None, message
            assert int(over[1]) > int(over[2]), message
        for task in look.pending.values():
            assert task.waiting is not None, f"{task.id} waits without a reason"
            assert task.waiting["reasons"]

    async def round(self) -> bool:
        done = await self.planner.run("test")
        await self.check()
        return done is not None and done.displaced > 0

    async def unfinished(self) -> int:
        async with self.ctx.database.read() as session:
            return len(await tasks.unfinished(session))


@asynccontextmanager
async def world(tmp_path: Path, seed: int) -> AsyncIterator[World]:
    clock = ManualClock()
    app = create_app(Settings(home=tmp_path / "home", plan_workers=1), clock=clock)
    ctx: Context = app.state.context
    await upgrade(ctx.database)
    made = World(ctx, clock, seed)
    for number in range(NODES):
        await made.join(f"n{number}")
    try:
        yield made
    finally:
        await ctx.database.close()


@pytest.mark.parametrize("seed", range(4))
async def test_preemption_keeps_its_word_whatever_comes(tmp_path: Path, seed: int) -> None:
    async with world(tmp_path, seed) as made:
        for _ in range(40):
            event = made.random.random()
            if event < 0.45:
                await made.submit()
            elif event < 0.5:
                await made.cancel_one()
            await made.act(obey=0.5, end=0.05)
            made.clock.advance(made.random.choice((1, 20, 100)))
            await made.round()

        # No news any more but that those who were told to leave do: the moving comes to an end.
        displaced = [await _settle(made) for _ in range(12)]
        assert not any(displaced[6:]), displaced

        for _ in range(200):
            if not await made.unfinished():
                break
            await made.act(obey=1.0, end=0.5)
            made.clock.advance(100)
            await made.round()
        assert not await made.unfinished(), "everybody came to run, and ended"
        await _nobody_lost_a_word(made)


async def _settle(made: World) -> bool:
    await made.act(obey=1.0)
    made.clock.advance(100)
    return await made.round()


async def _nobody_lost_a_word(made: World) -> None:
    async with made.ctx.database.read() as session:
        rows = (await session.scalars(select(Task))).all()
        assert {row.state for row in rows} <= {TaskState.SUCCEEDED, TaskState.CANCELLED}
        assert all(not row.reserved for row in rows)
        assert {row.failures for row in rows} == {0}
        assert len((await session.scalars(select(Node))).all()) == NODES
