"""Nodes over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, status

from app import signals
from app.deps import Ctx, Joiner, Paging, Reference, User, body, documented
from app.nodes import service
from app.nodes.schemas import NodePage, NodePatch, NodeView
from app.paging import decode_cursor, encode_cursor
from protocol import VERSION
from protocol.node import Registered, Registration

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"], dependencies=[User])
agent_router = APIRouter(prefix="/agent/v1", tags=["agents"])


@router.get("")
async def list_nodes(ctx: Ctx, paging: Annotated[Paging, Query()]) -> NodePage:
    """All nodes, by name."""
    after = decode_cursor(paging.cursor)
    async with ctx.database.read() as session:
        nodes = await service.page(session, after=after, limit=paging.limit)
        items = await service.views(session, nodes)
    more = len(nodes) == paging.limit
    return NodePage(items=items, next_cursor=encode_cursor(nodes[-1].name) if more else None)


@router.get("/{name}")
async def show_node(ctx: Ctx, name: Reference) -> NodeView:
    async with ctx.database.read() as session:
        [view] = await service.views(session, [await service.get(session, name)])
    return view


@router.patch("/{name}", openapi_extra=documented(NodePatch))
async def change_node(
    ctx: Ctx, name: Reference, form: Annotated[NodePatch, Depends(body(NodePatch))]
) -> NodeView:
    """Cordon a node, or let it take tasks again."""
    async with ctx.database.write() as session:
        node = await service.set_schedulable(ctx, session, name, schedulable=form.schedulable)
        [view] = await service.views(session, [node])
    ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    return view


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_node(ctx: Ctx, name: Reference) -> None:
    """Forget a node that is gone. Its token is void from then on."""
    async with ctx.database.write() as session:
        await service.remove(ctx, session, name)
    ctx.principals.clear()
    ctx.signals.notify(signals.PLANNING, signals.EVENTS)


@agent_router.post("/register", openapi_extra=documented(Registration))
async def register(
    ctx: Ctx, principal: Joiner, form: Annotated[Registration, Depends(body(Registration))]
) -> Registered:
    """A node joins with a join token, or comes back with its own."""
    async with ctx.database.write() as session:
        node, token = await service.register(ctx, session, form, principal)
    ctx.quiet.forget(node.id)
    if token is not None:
        ctx.principals.clear()
    ctx.signals.notify(signals.PLANNING, signals.EVENTS)
    return Registered(
        version=VERSION,
        node=node.name,
        token=token,
        lease_seconds=ctx.settings.lease_seconds,
        report_interval_seconds=ctx.pace.report_interval_seconds,
    )
