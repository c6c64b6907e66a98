"""Quarantines over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response, status

from app import signals
from app.db.tables import Device, Quarantine
from app.deps import Ctx, Paging, User, body, documented
from app.errors import Fault, InvalidInputError
from app.paging import decode_cursor, encode_cursor
from app.quarantine import service
from app.quarantine.rules import Code
from app.quarantine.schemas import QuarantineForm, QuarantinePage, QuarantineView

router = APIRouter(prefix="/api/v1/quarantines", tags=["quarantines"], dependencies=[User])

_ID_MAX = 2**53
Id = Annotated[int, Path(ge=1, le=_ID_MAX)]


class QuarantineQuery(Paging):
    all: Annotated[bool, Query()] = False


@router.get("")
async def list_quarantines(ctx: Ctx, query: Annotated[QuarantineQuery, Query()]) -> QuarantinePage:
    """Devices that take no new task, newest first; with ``all`` also those that do again."""
    before = _id_in(query.cursor)
    async with ctx.database.read() as session:
        found = await service.page(session, before=before, limit=query.limit, everything=query.all)
    more = len(found) == query.limit
    return QuarantinePage(
        items=[_view(*one) for one in found],
        next_cursor=encode_cursor(str(found[-1][0].id)) if more else None,
    )


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=documented(QuarantineForm))
async def begin_quarantine(
    ctx: Ctx, response: Response, form: Annotated[QuarantineForm, Depends(body(QuarantineForm))]
) -> QuarantineView:
    """Give a device no new task, by a person's word. One that is in force is answered as it is,
    with 200."""
    async with ctx.database.write() as session:
        place = await service.find_device(session, form.node, form.device)
        row, begun = await service.begin(ctx, session, place, Code.MANUAL, form.reason)
        view = _view(*await service.get(session, row.id))
    if begun:
        ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    else:
        response.status_code = status.HTTP_200_OK
    return view


@router.post("/{quarantine}/release")
async def release_quarantine(ctx: Ctx, quarantine: Id) -> QuarantineView:
    """End a quarantine, whoever began it. One that has ended is answered as it is."""
    async with ctx.database.write() as session:
        row, place, _ = await service.get(session, quarantine)
        ended = await service.end(ctx, session, row, place, "released by a user")
        view = _view(*await service.get(session, quarantine))
    if ended:
        ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    return view


def _id_in(cursor: str | None) -> int | None:
    key = decode_cursor(cursor)
    if key is None:
        return None
    if not (key.isascii() and key.isdigit() and int(key[:17]) <= _ID_MAX and len(key) <= 16):
        raise InvalidInputError(
            "the cursor isn't one of this list",
            faults=(Fault(path="cursor", value=cursor, reason="take it from next_cursor"),),
        )
    return int(key)


def _view(row: Quarantine, place: service.Place, device: Device | None) -> QuarantineView:
    return QuarantineView(
        id=row.id,
        node=place.node,
        uuid=row.uuid,
        index=place.index,
        model=None if device is None else device.model,
        simulated=device is not None and device.simulated,
        code=row.code,
        reason=row.reason,
        by_rule=row.by_rule,
        since=row.since,
        released_at=row.released_at,
        release_reason=row.release_reason,
    )
