"""Queues over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, status
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.deps import Ctx, Paging, Reference, User, body, documented
from app.paging import decode_cursor, encode_cursor
from app.queues import live, rules, service, views
from app.queues.rules import DEPTH_MAX
from app.queues.schemas import QueueAnswer, QueueForm, QueuePage, QueuePatch, QueueView

router = APIRouter(prefix="/api/v1/queues", tags=["queues"], dependencies=[User])

_CURSOR_MAX = 2 * 64 * DEPTH_MAX


class QueueQuery(Paging):
    cursor: Annotated[str | None, Query(max_length=_CURSOR_MAX)] = None
    """It names the whole path to a queue, so it's longer than others."""


@router.get("")
async def list_queues(ctx: Ctx, query: Annotated[QueueQuery, Query()]) -> QueuePage:
    """All queues in the order of the tree, each before those below it; those too that nobody
    created and tasks name."""
    key = decode_cursor(query.cursor)
    after = None if key is None else tuple(key.split("/"))
    async with ctx.database.read() as session:
        found = await views.views(ctx, session)
    parents = views.Tree({view.name: view.parent for view in found})
    paths = {view.name: parents.path(view.name) for view in found}
    rest = [view for view in found if after is None or paths[view.name] > after]
    items = rest[: query.limit]
    more = len(rest) > len(items)
    return QueuePage(
        items=items,
        next_cursor=encode_cursor("/".join(paths[items[-1].name])) if more else None,
    )


@router.get("/{name}")
async def show_queue(ctx: Ctx, name: Reference) -> QueueView:
    async with ctx.database.read() as session:
        return await views.view(ctx, session, name)


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=documented(QueueForm))
async def create_queue(
    ctx: Ctx, response: Response, form: Annotated[QueueForm, Depends(body(QueueForm))]
) -> QueueAnswer:
    """Create a queue. One that's there just like this is answered as it is, with 200."""
    async with ctx.database.write(plan_commit=True) as session:
        _, created = await service.create(ctx, session, form)
        answer = await _answer(ctx, session, form.name)
    if created:
        ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    else:
        response.status_code = status.HTTP_200_OK
    return answer


@router.patch("/{name}", openapi_extra=documented(QueuePatch))
async def change_queue(
    ctx: Ctx, name: Reference, form: Annotated[QueuePatch, Depends(body(QueuePatch))]
) -> QueueAnswer:
    """Change what is named of a queue; the next round of planning goes by it."""
    async with ctx.database.write(plan_commit=True) as session:
        await service.change(ctx, session, name, form)
        answer = await _answer(ctx, session, name)
    ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    return answer


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_queue(ctx: Ctx, name: Reference) -> None:
    """Forget a queue that has none below it and no unfinished task."""
    async with ctx.database.write(plan_commit=True) as session:
        await service.remove(ctx, session, name)
    ctx.signals.notify(signals.PLANNING, signals.EVENTS)


async def _answer(ctx: Ctx, session: AsyncSession, name: str) -> QueueAnswer:
    view = await views.view(ctx, session, name)
    notes = rules.notes(await service.all_queues(session), await live.capacity(session))
    return QueueAnswer(**view.model_dump(), notes=notes)
