"""When tasks start, and what if, over HTTP."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import Task
from app.deps import Ctx, Paging, Reference, User, body, documented
from app.errors import OverloadedError
from app.paging import decode_cursor, encode_cursor
from app.planning import what_if
from app.planning.child import SolverPool
from app.planning.eta import Eta, Etas
from app.planning.eta_schemas import (
    AffectedView,
    EtaPage,
    EtaView,
    NewTaskView,
    Simulation,
    SimulationView,
    StartView,
    UseView,
    UtilisationView,
)
from app.tasks import service as tasks
from app.tasks.states import TaskState
from solver.scheduling.timeplan import Start, TimePlan

router = APIRouter(prefix="/api/v1", tags=["time"], dependencies=[User])

SIMULATE_PATH = "/api/v1/simulate"
_UNKNOWN_MAX = 100
_SAME_SECONDS = 1.0


@router.get("/tasks/{task}/eta")
async def show_eta(ctx: Ctx, request: Request, task: Reference) -> EtaView:
    """When a task starts, if everybody runs as long as is forecast."""
    etas: Etas = request.app.state.etas
    async with ctx.database.read() as session:
        row = await tasks.get(session, task)
    waits = row.state == TaskState.PENDING and not row.cancelled
    if waits and etas.of(row.id) is None:
        await etas.refresh()
    found = etas.of(row.id) if waits else None
    now = etas.as_of or ctx.clock.now()
    if found is None:
        return _not_reckoned(row, now)
    return _view(row.id, row.name, row.state, found, now, _unknown(etas.plan))


@router.get("/eta")
async def list_etas(ctx: Ctx, request: Request, paging: Annotated[Paging, Query()]) -> EtaPage:
    """When each waiting task starts, in the order in which they get their room."""
    etas: Etas = request.app.state.etas
    if etas.as_of is None:
        await etas.refresh()
    found, now, plan = etas.all(), etas.as_of, etas.plan
    after = decode_cursor(paging.cursor)
    places = {eta.start.task: place for place, eta in enumerate(found)}
    # Whoever the last page ended with may have started meanwhile: then it's begun again.
    first = 0 if after is None else places.get(after, -1) + 1
    page = found[first : first + paging.limit]
    async with ctx.database.read() as session:
        names = await _names(session, [eta.start.task for eta in page])
    more = first + len(page) < len(found)
    return EtaPage(
        items=[
            _view(
                eta.start.task,
                names.get(eta.start.task, eta.start.task),
                TaskState.PENDING,
                eta,
                now or ctx.clock.now(),
                _unknown(plan),
            )
            for eta in page
        ],
        as_of=now,
        next_cursor=encode_cursor(page[-1].start.task) if more else None,
    )


@router.post(SIMULATE_PATH.removeprefix(router.prefix), openapi_extra=documented(Simulation))
async def simulate(
    ctx: Ctx, request: Request, form: Annotated[Simulation, Depends(body(Simulation))]
) -> SimulationView:
    """What would be: more tasks, nodes that come or go, other queues, tasks cancelled. Nothing is
    stored, and nothing is changed."""
    pool: SolverPool = request.app.state.solvers
    etas: Etas = request.app.state.etas
    if pool.waiting >= ctx.settings.solve_queue:
        raise OverloadedError(
            f"{pool.waiting} problems are waiting to be solved already", retry_after_seconds=5
        )
    found = await what_if.compare(ctx, pool, form)
    stretch = etas.calibration.corrected
    new = [start for start in found.after.starts if start.task.startswith(what_if.NEW)]
    costs = {start.task: what_if.cost(found, start, form.prices) for start in new}
    known = [cost for cost in costs.values() if cost is not None]

    def told(start: Start) -> StartView:
        p50, p90 = stretch(start.p50_seconds, start.p90_seconds)
        return StartView(seconds_p50=p50, seconds_p90=p90)

    return SimulationView(
        as_of=found.as_of,
        tasks=[
            NewTaskView(
                task=start.task,
                name=found.names[start.task],
                start_p50=_instant(found.as_of, told(start).seconds_p50),
                start_p90=_instant(found.as_of, told(start).seconds_p90),
                **told(start).model_dump(),
                never_ratio=start.never,
                nodes=list(start.nodes),
                waits_for=list(start.waits_for),
                why=start.why,
                cost=costs[start.task],
            )
            for start in new
        ],
        affected=[
            AffectedView(
                task=task,
                name=found.names[task],
                before=None if before is None else told(before),
                after=None if after is None else told(after),
            )
            for task, before, after in what_if.affected(found, _SAME_SECONDS)
        ],
        before=_utilisation(found.before),
        after=_utilisation(found.after),
        cost=sum(known) if form.prices and len(known) == len(costs) else None,
        unknown=_unknown(found.after),
    )


async def _names(session: AsyncSession, ids: list[str]) -> dict[str, str]:
    rows = await session.execute(select(Task.id, Task.name).where(Task.id.in_(ids)))
    return {row.id: row.name for row in rows}


def _view(
    task: str, name: str, state: str, eta: Eta, as_of: datetime, unknown: list[str]
) -> EtaView:
    return EtaView(
        task=task,
        name=name,
        state=state,
        start_p50=_instant(as_of, eta.p50_seconds),
        start_p90=_instant(as_of, eta.p90_seconds),
        seconds_p50=eta.p50_seconds,
        seconds_p90=eta.p90_seconds,
        never_ratio=eta.start.never,
        nodes=list(eta.start.nodes),
        waits_for=list(eta.start.waits_for),
        why=eta.start.why,
        as_of=as_of,
        unknown=unknown,
    )


def _not_reckoned(row: Task, as_of: datetime) -> EtaView:
    """Of a task that has started, or of which no time plan speaks."""
    match TaskState(row.state):
        case TaskState.PENDING if row.reserved:
            why = "room is kept for it: it starts when those who leave it have left"
        case TaskState.PENDING:
            why = "it isn't up for planning: see stowplan why"
        case TaskState.STARTING | TaskState.RUNNING | TaskState.STOPPING:
            why = "it has started"
        case _:
            why = "it's over"
    return EtaView(
        task=row.id,
        name=row.name,
        state=row.state,
        start_p50=None,
        start_p90=None,
        seconds_p50=None,
        seconds_p90=None,
        never_ratio=0.0,
        nodes=[],
        waits_for=[],
        why=why,
        as_of=as_of,
        unknown=[],
    )


def _instant(as_of: datetime, seconds: float | None) -> datetime | None:
    return None if seconds is None else as_of + timedelta(seconds=seconds)


def _unknown(plan: TimePlan | None) -> list[str]:
    return [] if plan is None else list(plan.unknown[:_UNKNOWN_MAX])


def _utilisation(plan: TimePlan) -> UtilisationView:
    return UtilisationView(
        capacity_gpu_milli=plan.capacity_gpu_milli,
        use=[UseView(seconds=use.seconds, gpu_milli=use.gpu_milli) for use in plan.use],
    )
