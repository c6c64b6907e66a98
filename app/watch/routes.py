"""Findings over HTTP."""

from dataclasses import asdict

from fastapi import APIRouter

from app.deps import Ctx, User
from app.findings import Found
from app.watch import service
from app.watch.schemas import FindingList, FindingView

router = APIRouter(prefix="/api/v1/findings", tags=["findings"], dependencies=[User])


@router.get("")
async def list_findings(ctx: Ctx, found: Found) -> FindingList:
    """What is known to be amiss now: idle tasks, devices that take no task, nodes that run tasks
    and measure nothing."""
    async with ctx.database.read() as session:
        devices = await service.unhealthy(session)
    return FindingList(items=[FindingView(**asdict(one)) for one in (*found.all, *devices)])
