"""Plans over HTTP, and the solver for those who bring their own problem."""

import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.db.tables import Plan
from app.deps import Ctx, Paging, Reference, User
from app.paging import decode_cursor, encode_cursor
from app.planning import service
from app.planning.child import SolverPool
from app.planning.schemas import PlanPage, PlanSummary, PlanView

_DOCUMENT = TypeAdapter(dict[str, Any])


router = APIRouter(prefix="/api/v1", tags=["plans"], dependencies=[User])

SOLVE_PATH = "/api/v1/solve"


@router.get("/plans")
async def list_plans(ctx: Ctx, paging: Annotated[Paging, Query()]) -> PlanPage:
    """Planning rounds, newest first."""
    async with ctx.database.read() as session:
        rows = await service.page(session, before=decode_cursor(paging.cursor), limit=paging.limit)
    more = len(rows) == paging.limit
    return PlanPage(
        items=[PlanSummary(**_summary(row)) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


@router.get("/plans/{plan}")
async def show_plan(ctx: Ctx, plan: Reference) -> PlanView:
    """A plan in the contract's form, with its bound, gap, reasons and fixes."""
    async with ctx.database.read() as session:
        row = await service.get(session, plan)
    document = _DOCUMENT.validate_json(zlib.decompress(row.plan))
    return PlanView(**_summary(row), plan=document)


@router.get("/plans/{plan}/problem", response_class=Response)
async def show_problem(ctx: Ctx, plan: Reference) -> Response:
    """The problem that a plan answers, to the byte: `stowplan solve` repeats the round."""
    async with ctx.database.read() as session:
        row = await service.get(session, plan)
    return Response(zlib.decompress(row.problem), media_type="application/json")


@router.post(
    SOLVE_PATH.removeprefix(router.prefix),
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        },
        "responses": {
            "200": {
                "description": "The plan.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Plan"}}},
            }
        },
    },
)
async def solve(ctx: Ctx, request: Request) -> Response:
    """Solve a placement problem (contract, section 2). Nothing is stored."""
    pool: SolverPool = request.app.state.solvers
    plan = await service.solve(ctx, pool, await request.body())
    return Response(plan, media_type="application/json")


def _summary(row: Plan) -> dict[str, Any]:
    return {name: getattr(row, name) for name in PlanSummary.model_fields}
