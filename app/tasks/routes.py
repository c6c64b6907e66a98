"""Tasks over HTTP."""

from typing import Annotated, Self

from fastapi import APIRouter, Depends, Header, Query, Response, status
from pydantic import BaseModel, ConfigDict, model_validator

from app import signals
from app.db.tables import Plan
from app.deps import Agent, Ctx, Paging, Reference, User, body, documented
from app.findings import Found
from app.paging import decode_cursor, encode_cursor
from app.tasks import logs, service, views
from app.tasks.schemas import LogPage, TaskPage, TaskView, Why
from app.tasks.states import TaskState
from protocol.report import LogAck, LogChunk
from protocol.task import REPLICAS_MAX, Name, TaskSpec

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"], dependencies=[User])
agent_router = APIRouter(prefix="/agent/v1", tags=["agents"])

_OFFSET_MAX = 2**53
RANKS_MAX = 1_000_000
WAIT_SECONDS_MAX = 8.0
"""Below the ten seconds after which many clients and proxies give up on a silent answer."""


class TaskQuery(Paging):
    state: Annotated[list[TaskState], Query(max_length=16)] = []
    queue: Annotated[Name | None, Query()] = None
    name: Annotated[Name | None, Query()] = None


class LogQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    replica: Annotated[int | None, Query(ge=0, lt=REPLICAS_MAX)] = None
    """Default: that of the rank, or the first."""
    rank: Annotated[int | None, Query(ge=0, lt=RANKS_MAX)] = None
    """Only its lines, by its number in the whole gang."""
    generation: Annotated[int | None, Query(ge=1, lt=2**31)] = None
    offset: Annotated[int, Query(ge=-_OFFSET_MAX, le=_OFFSET_MAX)] = 0
    limit: Annotated[int, Query(ge=16, le=1 << 20)] = 1 << 16
    tail_bytes: Annotated[int | None, Query(ge=16, le=1 << 20)] = None
    """In place of offset and limit: the newest bytes."""
    wait: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.tail_bytes is not None and self.offset:
            raise ValueError("give offset or tail_bytes, not both: each says where to begin")
        return self


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=documented(TaskSpec),
    response_model=TaskView,
)
async def submit_task(
    ctx: Ctx,
    response: Response,
    spec: Annotated[TaskSpec, Depends(body(TaskSpec))],
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
    ] = None,
) -> TaskView:
    """Submit a task. The same Idempotency-Key with the same body gives the same task again, with
    200."""
    async with ctx.database.write() as session:
        task, created = await service.submit(ctx, session, spec, idempotency_key)
        view = views.task_view(task, ctx.clock.now(), board=ctx.progress)
    if created:
        ctx.signals.notify(signals.PLANNING, signals.TASKS, signals.EVENTS)
    else:
        response.status_code = status.HTTP_200_OK
    response.headers["Location"] = f"/api/v1/tasks/{view.id}"
    return view


@router.get("")
async def list_tasks(ctx: Ctx, found: Found, query: Annotated[TaskQuery, Query()]) -> TaskPage:
    """Tasks, newest first."""
    async with ctx.database.read() as session:
        tasks = await service.page(
            session,
            before=decode_cursor(query.cursor),
            limit=query.limit,
            states=query.state,
            queue=query.queue,
            name=query.name,
        )
    now = ctx.clock.now()
    more = len(tasks) == query.limit
    return TaskPage(
        items=[
            views.task_view(task, now, found.idle(task.id), ctx.progress, brief=True)
            for task in tasks
        ],
        next_cursor=encode_cursor(tasks[-1].id) if more else None,
    )


@router.get("/{task}")
async def show_task(ctx: Ctx, found: Found, task: Reference) -> TaskView:
    """A task by its id, or the newest one of a name."""
    async with ctx.database.read() as session:
        row = await service.get(session, task)
    return views.task_view(row, ctx.clock.now(), found.idle(row.id), ctx.progress)


@router.post("/{task}/cancel", status_code=status.HTTP_202_ACCEPTED)
async def cancel_task(ctx: Ctx, response: Response, task: Reference) -> TaskView:
    """Stop a task for good: at once while it waits, with its grace while it runs."""
    async with ctx.database.write() as session:
        row, nodes = await service.cancel(ctx, session, task)
        view = views.task_view(row, ctx.clock.now(), board=ctx.progress)
    if TaskState(view.state).final:
        response.status_code = status.HTTP_200_OK
    ctx.signals.notify(
        signals.PLANNING, signals.TASKS, signals.EVENTS, *(signals.node_topic(n) for n in nodes)
    )
    return view


@router.get("/{task}/why")
async def why_task(ctx: Ctx, task: Reference) -> Why:
    """Where the task runs and by which plan; or every reason why it waits, with the cheapest
    fixes."""
    async with ctx.database.read() as session:
        row = await service.get(session, task)
        plan = await session.get(Plan, row.plan_id) if row.plan_id else None
        return views.why(row, plan, ctx.clock.now())


@router.get("/{task}/logs")
async def read_logs(ctx: Ctx, task: Reference, query: Annotated[LogQuery, Query()]) -> LogPage:
    """A replica's or a rank's output. With ``wait``, held until there is more than ``offset``, or
    the end. A page of a rank may be without text and still lead on."""
    tail_bytes = query.tail_bytes
    offset = query.offset if tail_bytes is None else -tail_bytes
    deadline = ctx.clock.monotonic() + query.wait
    topic = signals.TASKS
    while True:
        ticket = ctx.signals.ticket(topic)
        async with ctx.database.read() as session:
            page = await logs.read(
                session,
                await service.get(session, task),
                replica=query.replica,
                rank=query.rank,
                generation=query.generation,
                offset=offset,
                limit=max(query.limit, tail_bytes or 0),
            )
        remaining = deadline - ctx.clock.monotonic()
        more = page.next_offset > page.offset
        if more or page.complete or remaining <= 0 or ctx.signals.closed:
            return page
        place = signals.TASKS if page.allocation is None else signals.log_topic(page.allocation)
        if place == topic:
            await signals.wait(ticket, remaining)
        topic = place


@agent_router.post("/logs", openapi_extra=documented(LogChunk))
async def append_logs(
    ctx: Ctx, agent: Agent, chunk: Annotated[LogChunk, Depends(body(LogChunk))]
) -> LogAck:
    """An agent ships what a task of its node has printed."""
    async with ctx.database.write() as session:
        next_offset = await logs.append(ctx, session, agent, chunk)
    ctx.signals.notify(signals.log_topic(chunk.allocation))
    return LogAck(next_offset=next_offset)
