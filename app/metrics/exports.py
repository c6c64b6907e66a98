"""Measurements as files, written while they're read: any range, in little memory."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from app.clock import milliseconds
from app.db.samples.pages import Selection, column_names, has_series, pages
from app.db.samples.tables import RESOLUTIONS
from app.deps import Ctx
from app.errors import Fault, InvalidInputError, NotFoundError
from app.metrics.formats import MEDIA_TYPES, Encoder, Format, encoder
from app.metrics.queries import Of, RangeQuery, Word, range_of
from app.metrics.telemetry import Measured

router = APIRouter()


class Fineness(StrEnum):
    SAMPLES = "samples"
    MINUTES = "minutes"
    HOURS = "hours"


class ExportQuery(RangeQuery):
    of: Of = Of.DEVICE
    format: Format = Format.CSV
    resolution: Fineness = Fineness.MINUTES
    node: Word | None = None
    device: Word | None = None
    task: Word | None = None


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {media: {} for media in MEDIA_TYPES.values()}}},
)
async def export(
    ctx: Ctx, telemetry: Measured, query: Annotated[ExportQuery, Query()]
) -> StreamingResponse:
    """All rows of a range (default: the last hour) as CSV, an Arrow stream or Parquet.

    ``resolution``: ``samples`` as they came, ``minutes`` or ``hours``; what isn't rolled up yet is
    in the finer ones only. Counters are as they were read: take differences.
    """
    now_ms = milliseconds(ctx.clock.now())
    start_ms, end_ms = range_of(query, now_ms=now_ms)
    [resolution] = [one for one in RESOLUTIONS if one.name == query.resolution.value]
    selection = Selection(
        kind=query.of.kind,
        resolution=resolution,
        start_ms=start_ms,
        end_ms=end_ms,
        node=query.node,
        key=_key(query),
        task=query.task,
    )
    if selection.is_narrow and not await has_series(telemetry.store, selection):
        raise NotFoundError("nothing of that name was ever measured: see stowplan nodes")
    columns = column_names(selection.kind, resolution)
    encoded = encoder(query.format, selection.kind, columns)
    found = pages(telemetry.store, selection)
    first = await anext(found, [])  # a store that doesn't answer is told before anything is sent
    name = f"{query.of.value}-{resolution.name}-{start_ms}-{end_ms}.{query.format.value}"
    return StreamingResponse(
        _written(encoded, first, found),
        media_type=MEDIA_TYPES[query.format],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _key(query: ExportQuery) -> str | None:
    faults = [
        Fault(path=name, value=value, reason=f"says nothing when of is {query.of.value}")
        for name, value, of in (
            ("device", query.device, Of.DEVICE),
            ("task", query.task, Of.TASK),
        )
        if value is not None and query.of is not of
    ]
    if faults:
        raise InvalidInputError(f"{len(faults)} fault(s) in the request", faults=tuple(faults))
    return query.device


async def _written(
    encoded: Encoder, first: Sequence[Any], rest: AsyncIterator[Sequence[Any]]
) -> AsyncIterator[bytes]:
    # In a thread: a page takes many milliseconds, in which reports would wait.
    yield await asyncio.to_thread(encoded.start)
    if first:
        yield await asyncio.to_thread(encoded.rows, first)
    async for page in rest:
        yield await asyncio.to_thread(encoded.rows, page)
    yield await asyncio.to_thread(encoded.end)
