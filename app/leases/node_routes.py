"""What a person does with a node as a whole and the tasks on it, over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession

from app import signals
from app.db.tables import Node
from app.deps import Ctx, Reference, User, body, documented
from app.leases import drains, losing
from app.nodes import service as nodes
from app.nodes.schemas import DrainForm, MaintenanceForm, NodeView

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"], dependencies=[User])


@router.post("/{name}/drain", openapi_extra=documented(DrainForm))
async def drain_node(
    ctx: Ctx, name: Reference, form: Annotated[DrainForm, Depends(body(DrainForm))]
) -> NodeView:
    """Cordon a node and have its tasks leave it, checkpoint first. Uncordoning it ends that."""
    async with ctx.database.write() as session:
        node, topics = await drains.drain(ctx, session, name, form, maintenance=False)
        view = await _view(session, node)
    ctx.signals.notify(*topics)
    return view


@router.post("/{name}/maintenance", openapi_extra=documented(MaintenanceForm))
async def maintain_node(
    ctx: Ctx, name: Reference, form: Annotated[MaintenanceForm, Depends(body(MaintenanceForm))]
) -> NodeView:
    """Drain a node; until it's uncordoned its silence raises no alarm."""
    async with ctx.database.write() as session:
        node, topics = await drains.drain(ctx, session, name, form, maintenance=True)
        view = await _view(session, node)
    ctx.signals.notify(*topics)
    return view


@router.post("/{name}/declare-lost")
async def declare_node_lost(ctx: Ctx, name: Reference) -> NodeView:
    """A silent node is gone for good, by a person's word: all that it held is over, also what it
    was to keep. Where that isn't so, a task may run twice until the node is reached again.
    """
    async with ctx.database.write() as session:
        node = await nodes.get(session, name)
        topics = await losing.declare_lost(ctx, session, node)
        view = await _view(session, node)
    ctx.quiet.forget(node.id)
    ctx.signals.notify(signals.PLANNING, *topics)
    return view


async def _view(session: AsyncSession, node: Node) -> NodeView:
    await session.flush()
    [view] = await nodes.views(session, [node])
    return view
