"""Tokens with which machines join, so many times and until a time. Never commits: the caller owns
the transaction.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import digest, new_token
from app.db.tables import JoinToken
from app.deps import Context
from app.errors import NotFoundError, UnauthorizedError

_KEEP_OLD = timedelta(days=30)
"""So long people can see what became of one."""


async def create(
    ctx: Context, session: AsyncSession, *, uses: int, hours: float
) -> tuple[JoinToken, str]:
    """A new one, and its words: they are told this once, and kept as a digest."""
    now = ctx.clock.now()
    await session.execute(delete(JoinToken).where(JoinToken.expires_at < now - _KEEP_OLD))
    token = new_token("join")
    row = JoinToken(
        id=ctx.ids.new("j"),
        digest=digest(token),
        uses_left=uses,
        created_at=now,
        expires_at=now + timedelta(hours=hours),
        last_node="",
    )
    session.add(row)
    await session.flush()
    return row, token


async def page(session: AsyncSession, *, before: str | None, limit: int) -> Sequence[JoinToken]:
    """Newest first."""
    query = select(JoinToken).order_by(JoinToken.id.desc()).limit(limit)
    if before is not None:
        query = query.where(JoinToken.id < before)
    return (await session.scalars(query)).all()


async def revoke(session: AsyncSession, token_id: str) -> None:
    """Nobody joins with it any more. Nodes that have stay.

    Raises:
        NotFoundError: there is none of this id.
    """
    gone = await session.execute(delete(JoinToken).where(JoinToken.id == token_id))
    if gone.rowcount == 0:  # pyright: ignore[reportAttributeAccessIssue]
        raise NotFoundError(f"no join token has the id {token_id!r}: see stowplan join-token list")


async def consume(ctx: Context, session: AsyncSession, token_id: str, node: str) -> None:
    """Use it once, for this node. Of many at once as many succeed as it has uses.

    Raises:
        UnauthorizedError: it's used up, has expired, or was revoked.
    """
    now = ctx.clock.now()
    used = await session.execute(
        update(JoinToken)
        .where(JoinToken.id == token_id, JoinToken.uses_left > 0, JoinToken.expires_at > now)
        .values(
            uses_left=JoinToken.uses_left - 1,
            last_node=node,
            row_version=JoinToken.row_version + 1,
        )
        .execution_options(synchronize_session=False)
    )
    if used.rowcount == 1:  # pyright: ignore[reportAttributeAccessIssue]
        return
    row = await session.get(JoinToken, token_id)
    raise UnauthorizedError(
        "this join token was revoked: ask for another"
        if row is None
        else f"this join token expired at {row.expires_at:%Y-%m-%d %H:%M} UTC: ask for another"
        if row.expires_at <= now
        else "this join token is used up: ask for another (stowplan join-token create)"
    )


async def was_used_for(session: AsyncSession, token_id: str, node: str) -> bool:
    """Whether its last use was this node's."""
    last = await session.scalar(select(JoinToken.last_node).where(JoinToken.id == token_id))
    return last == node
