"""A planning round, and the plans that were made."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from app import log, signals
from app.db.tables import Plan as PlanRow
from app.deps import Context
from app.errors import NotFoundError, OverloadedError, ServiceError
from app.planning.changes import changes_of
from app.planning.child import SolverPool
from app.planning.commit import commit
from app.planning.documents import parse_plan
from app.planning.framing import budget_seconds
from app.planning.holding import Holding, holding
from app.planning.holds import backfill, kept_out, without_stand_ins
from app.planning.questions import QUESTIONS, SOLVE
from app.planning.reservations import carry_out, judge
from app.planning.snapshot import Snapshot, take
from app.planning.solving import Solver
from app.tasks import service as tasks
from solver.plan import Plan
from solver.problem import Budget, Problem
from solver.replay import canonical_bytes

_log = log.get("planning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of a round. ``again``: something didn't hold, so the next round shouldn't wait for
    news."""

    placed: int = 0
    reserved: int = 0
    displaced: int = 0
    rejected: int = 0

    def __add__(self, other: "Round") -> "Round":
        return Round(
            placed=self.placed + other.placed,
            reserved=self.reserved + other.reserved,
            displaced=self.displaced + other.displaced,
            rejected=self.rejected + other.rejected,
        )

    @property
    def changed(self) -> bool:
        return bool(self.placed or self.reserved or self.displaced or self.rejected)

    @property
    def again(self) -> bool:
        return self.rejected > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """A problem and its plan, as the solver's process speaks of them and as we do."""

    problem: Problem
    """Without stand-ins, as the plan is."""
    plan: Plan
    question: bytes
    answer: bytes
    kept_out: Mapping[str, Sequence[str]]
    """By waiting task, the gangs whose room it could have."""


class Planner:
    """Runs rounds, one after another; a question that was asked in vain isn't asked twice."""

    def __init__(self, ctx: Context, solver: Solver) -> None:
        self._ctx = ctx
        self._solver = solver
        self._answered: str | None = None
        self.changes_in_seconds: float | None = None
        """After which time alone makes it worth asking again, as of the last round."""

    async def run(self, trigger: str) -> Round | None:
        """Snapshot, plan, commit. None when nothing waits, or nothing has changed since the last
        round."""
        settings = self._ctx.settings
        budget = Budget(
            seconds=settings.plan_seconds,
            workers=settings.plan_workers,
            max_moves=settings.max_moves,
        )
        self.changes_in_seconds = None
        async with self._ctx.database.read() as session:
            if not await tasks.any_waits(session):
                return None  # news of a large fleet costs nothing while there's nothing to place
            snapshot = await take(self._ctx, session, budget)
        if judge(snapshot):
            snapshot = await self._settle_reservations(budget)
        self._ctx.shares.entitlements = snapshot.ranking.entitlements
        self.changes_in_seconds = snapshot.changes_in_seconds
        if not snapshot.pending or snapshot.question == self._answered:
            return None
        holds = await holding(self._ctx, self._solver, snapshot)
        answered = await self._answer(snapshot, holds)
        if answered is None:
            return None
        done = await self._commit(trigger, snapshot, answered, holds)
        if holds and holds.may_be_used(snapshot.pending):
            done += await self._backfill(budget, holds)
        # A task that ran and waits again poses the same question anew: only an answer that changed
        # nothing is worth remembering.
        self._answered = None if done.changed else snapshot.question
        return done

    async def _settle_reservations(self, budget: Budget) -> Snapshot:
        """Start who was waiting for room that is free now. Gives the look after it."""
        ctx = self._ctx
        async with ctx.database.write(plan_commit=True) as session:
            fresh = await take(ctx, session, budget)
            nodes = await carry_out(ctx, session, fresh, judge(fresh))
        ctx.signals.notify(
            signals.TASKS, signals.EVENTS, *(signals.node_topic(node) for node in nodes)
        )
        async with ctx.database.read() as session:
            return await take(ctx, session, budget)

    async def _answer(self, snapshot: Snapshot, holds: Holding | None) -> _Answer | None:
        """Where nobody has been waiting yet it's first asked without touching what runs: mostly
        that places everybody, and it's an easier question.
        """
        problem = holds.held.problem if holds else snapshot.problem
        if problem.budget.max_moves and not any(t.waiting for t in snapshot.pending.values()):
            gentle = replace(problem, budget=replace(problem.budget, max_moves=0))
            answer = await self._ask(gentle, snapshot.problem)
            if answer is None or not answer.plan.unplaced:
                return answer
        return await self._ask(problem, snapshot.problem)

    async def _ask(self, problem: Problem, real: Problem) -> _Answer | None:
        """``real``: the problem without stand-ins."""
        question = canonical_bytes(problem)
        try:
            answer = await self._solver.solve(question, self._ctx.settings.plan_seconds)
        except ServiceError as error:
            _log.error(
                "round_failed", reason=error.detail, faults=[f.as_json() for f in error.faults]
            )
            return None
        plan = parse_plan(answer)
        return _Answer(
            problem=real,
            plan=without_stand_ins(real, plan),
            question=question,
            answer=answer,
            kept_out=kept_out(plan),
        )

    async def _backfill(self, budget: Budget, holds: Holding) -> Round:
        """Place those in held room who are gone again before its gang starts."""
        async with self._ctx.database.read() as session:
            snapshot = await take(self._ctx, session, budget)
        problem = backfill(snapshot.problem, holds.held, holds.ends_in_seconds)
        answered = None if problem is None else await self._ask(problem, problem)
        if answered is None or not changes_of(answered.problem, answered.plan).after:
            return Round()
        return await self._commit("backfill", snapshot, answered, None)

    async def _commit(
        self, trigger: str, snapshot: Snapshot, answered: _Answer, holds: Holding | None
    ) -> Round:
        ctx, problem, plan = self._ctx, answered.problem, answered.plan
        kept = {
            task: [(gang, holds.starts_in_seconds[gang]) for gang in gangs]
            for task, gangs in answered.kept_out.items()
            if holds
        }
        plan_id = ctx.ids.new("p")
        async with ctx.database.write(plan_commit=True) as session:
            done = await commit(
                ctx, session, problem=problem, plan=plan, plan_id=plan_id, kept_out=kept
            )
            session.add(
                PlanRow(
                    id=plan_id,
                    created_at=ctx.clock.now(),
                    trigger=trigger,
                    status=plan.status.value,
                    digest=plan.stats.digest,
                    problem=zlib.compress(answered.question),
                    plan=zlib.compress(answered.answer),
                    pending=len(snapshot.pending),
                    placed=len(done.placed) + len(done.reserved),
                    rejected=len(done.rejected),
                    seconds=plan.stats.seconds,
                )
            )
        ctx.signals.notify(
            signals.TASKS, signals.EVENTS, *(signals.node_topic(node) for node in done.nodes)
        )
        _log.info(
            "round",
            plan=plan_id,
            trigger=trigger,
            status=plan.status.value,
            pending=len(snapshot.pending),
            placed=len(done.placed),
            reserved=len(done.reserved),
            displaced=len(done.displaced),
            rejected=len(done.rejected),
            seconds=round(plan.stats.seconds, 3),
            gap=_largest_gap(plan),
        )
        return Round(
            placed=len(done.placed),
            reserved=len(done.reserved),
            displaced=len(done.displaced),
            rejected=len(done.rejected),
        )


def _largest_gap(plan: Plan) -> float:
    return max((term.gap for term in plan.objective), default=0.0)


async def solve(ctx: Context, pool: SolverPool, data: bytes, question: str = SOLVE) -> bytes:
    """The answer to a user's own question, as the contract has it. Nothing of it is stored."""
    if pool.waiting >= ctx.settings.solve_queue:
        raise OverloadedError(
            f"{pool.waiting} problems are waiting to be solved already", retry_after_seconds=5
        )
    asked = await asyncio.to_thread(budget_seconds, data)
    seconds = QUESTIONS[question].seconds if asked is None else asked
    return await pool.solve(data, min(seconds, ctx.settings.solve_seconds_max), question)


async def page(session: AsyncSession, *, before: str | None, limit: int) -> Sequence[PlanRow]:
    """Newest first, without their documents."""
    query = (
        select(PlanRow)
        .options(defer(PlanRow.problem, raiseload=True), defer(PlanRow.plan, raiseload=True))
        .order_by(PlanRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(PlanRow.id < before)
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, plan_id: str) -> PlanRow:
    row = await session.get(PlanRow, plan_id)
    if row is None:
        raise NotFoundError(f"no plan {plan_id!r}: old plans are dropped; see stowplan plans")
    return row


async def drop_oldest(session: AsyncSession, *, keep: int) -> None:
    newest = await session.scalar(
        select(PlanRow.id).order_by(PlanRow.id.desc()).offset(keep).limit(1)
    )
    if newest is not None:
        await session.execute(delete(PlanRow).where(PlanRow.id <= newest))
