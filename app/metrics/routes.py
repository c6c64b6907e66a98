"""Measurements over HTTP: the latest, charts, lists and sums.

Answers are written by hand and not by the forms that document them: a fleet's are megabytes.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic_core import to_json

from app.clock import milliseconds
from app.db.samples.tables import Kind
from app.deps import Context, Ctx, Reference, User
from app.errors import NotFoundError
from app.metrics import exports, streams
from app.metrics.charts import Asked
from app.metrics.latest import FIELDS
from app.metrics.queries import (
    AggregateQuery,
    LatestQuery,
    Order,
    SeriesQuery,
    TopQuery,
    range_of,
    require_word,
    words_of,
)
from app.metrics.rates import METRICS
from app.metrics.schemas import Aggregate, DeviceSeries, Latest, NodeSeries, TaskSeries, Top
from app.metrics.telemetry import Measured
from app.metrics.top import top as top_of
from app.tasks import service as tasks

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"], dependencies=[User])


def now_ms_of(ctx: Context) -> int:
    return milliseconds(ctx.clock.now())


def _no_node(name: str) -> NotFoundError:
    return NotFoundError(f"no node is named {name!r}: see stowplan nodes")


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")


@router.get("/latest", response_model=Latest)
async def latest(ctx: Ctx, telemetry: Measured, query: Annotated[LatestQuery, Query()]) -> Response:
    """The newest sample of every host, device and replica. A node that has been silent has none.

    ``fields``: of each only these, with commas between.
    """
    fields = frozenset(words_of(query.fields, path="fields", known=FIELDS))
    now_ms = now_ms_of(ctx)
    fleet = telemetry.fleet
    await fleet.refresh(now_ms=now_ms)
    if query.node is not None and query.node not in fleet.roster.devices:
        raise _no_node(query.node)
    names = [query.node] if query.node is not None else list(fleet.roster.devices)
    texts = await fleet.texts(names, now_ms=now_ms, fields=fields)
    return Response(b'{"items":[' + b",".join(texts) + b"]}", media_type="application/json")


def _asked(ctx: Context, query: SeriesQuery, *kinds: Kind) -> Asked:
    now_ms = now_ms_of(ctx)
    start_ms, end_ms = range_of(query, now_ms=now_ms)
    known = {metric for kind in kinds for metric in METRICS[kind]}
    metrics: Sequence[str] = words_of(query.fields, path="fields", known=known)
    return Asked(
        start_ms=start_ms, end_ms=end_ms, points=query.points, metrics=metrics, now_ms=now_ms
    )


@router.get("/nodes/{name}", response_model=NodeSeries)
async def node_series(
    ctx: Ctx, telemetry: Measured, name: Reference, query: Annotated[SeriesQuery, Query()]
) -> Response:
    """A node and its devices over a range (default: the last hour), in at most ``points`` points.

    Also of a node that isn't there any more.
    """
    asked = _asked(ctx, query, Kind.HOST, Kind.DEVICE)
    await telemetry.fleet.refresh(now_ms=asked.now_ms)
    known = telemetry.fleet.roster.devices.get(name)
    form = await telemetry.charts.node(name, known, asked)
    if form is None:
        raise _no_node(name)
    return _json(form)


@router.get("/devices/{uuid}", response_model=DeviceSeries)
async def device_series(
    ctx: Ctx, telemetry: Measured, uuid: Reference, query: Annotated[SeriesQuery, Query()]
) -> Response:
    """A device over a range (default: the last hour), in at most ``points`` points."""
    asked = _asked(ctx, query, Kind.DEVICE)
    form = await telemetry.charts.device(uuid, asked)
    if form is None:
        raise NotFoundError(f"no device {uuid!r} was ever measured: see stowplan nodes")
    return _json(form)


@router.get("/tasks/{task}", response_model=TaskSeries)
async def task_series(
    ctx: Ctx, telemetry: Measured, task: Reference, query: Annotated[SeriesQuery, Query()]
) -> Response:
    """What all replicas of a task used over a range (default: the last hour)."""
    asked = _asked(ctx, query, Kind.TASK)
    form = await telemetry.charts.task(task, asked)
    if form is not None:  # by its id: nothing else needs to know it any more
        return _json(form)
    async with ctx.database.read() as session:
        found = (await tasks.get(session, task)).id
    form = await telemetry.charts.task(found, asked)
    if form is None:
        head = await telemetry.charts.empty(Kind.TASK, asked)
        form = {**head, "task": found, "replicas": []}
    return _json(form)


@router.get("/top", response_model=Top)
async def top(ctx: Ctx, telemetry: Measured, query: Annotated[TopQuery, Query()]) -> Response:
    """The nodes, devices or replicas with the most, or the least, of a metric right now.

    ``metric``: a gauge by its name, or the rate of a counter (``..._per_second``).
    """
    kind = query.of.kind
    require_word(query.metric, path="metric", known=METRICS[kind])
    now_ms = now_ms_of(ctx)
    if kind is Kind.TASK:
        await telemetry.fleet.refresh(now_ms=now_ms)
    items = top_of(
        telemetry.live,
        telemetry.fleet,
        kind,
        query.metric,
        n=query.n,
        most=query.order is Order.MOST,
        now_ms=now_ms,
    )
    return _json({"metric": query.metric, "items": items})


@router.get("/aggregate", response_model=Aggregate)
async def aggregate(
    ctx: Ctx, telemetry: Measured, query: Annotated[AggregateQuery, Query()]
) -> Response:
    """Sums over a range (default: the last day): what queues and tasks held and used of GPUs, what
    the devices of a model or node did.

    Long ranges are read from whole hours, as far as these are rolled up: the answer says which.
    """
    now_ms = now_ms_of(ctx)
    start_ms, end_ms = range_of(query, now_ms=now_ms, hours=24)
    return _json(await telemetry.aggregates.by(query.by, start_ms, end_ms, now_ms=now_ms))


router.include_router(exports.router)
router.include_router(streams.router)
