"""Join tokens over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, status

from app.db.tables import JoinToken
from app.deps import Ctx, Paging, Reference, User, body, documented
from app.nodes import join_tokens
from app.nodes.schemas import JoinTokenForm, JoinTokenPage, JoinTokenView, NewJoinToken
from app.paging import decode_cursor, encode_cursor

router = APIRouter(prefix="/api/v1/join-tokens", tags=["nodes"], dependencies=[User])


@router.post("", status_code=status.HTTP_201_CREATED, openapi_extra=documented(JoinTokenForm))
async def create_join_token(
    ctx: Ctx, form: Annotated[JoinTokenForm, Depends(body(JoinTokenForm))]
) -> NewJoinToken:
    """A token for machines that are to join. It is told in this answer and never again."""
    async with ctx.database.write() as session:
        row, token = await join_tokens.create(ctx, session, uses=form.uses, hours=form.hours)
    return NewJoinToken(token=token, **_view(ctx, row).model_dump())


@router.get("")
async def list_join_tokens(ctx: Ctx, paging: Annotated[Paging, Query()]) -> JoinTokenPage:
    """All join tokens but the permanent one, newest first, without their words."""
    before = decode_cursor(paging.cursor)
    async with ctx.database.read() as session:
        rows = await join_tokens.page(session, before=before, limit=paging.limit)
    more = len(rows) == paging.limit
    return JoinTokenPage(
        items=[_view(ctx, row) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


@router.delete("/{token}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_join_token(ctx: Ctx, token: Reference) -> None:
    """Void a join token, by its id. Nodes that have joined with it stay."""
    async with ctx.database.write() as session:
        await join_tokens.revoke(session, token)


def _view(ctx: Ctx, row: JoinToken) -> JoinTokenView:
    return JoinTokenView(
        id=row.id,
        uses_left=row.uses_left,
        usable=row.uses_left > 0 and row.expires_at > ctx.clock.now(),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_node=row.last_node or None,
    )
