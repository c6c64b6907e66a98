"""Plans over HTTP, and the solver for those who bring their own problem."""

import zlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from app.db.tables import Plan
from app.deps import Ctx, Paging, Reference, User
from app.paging import decode_cursor, encode_cursor
from app.planning import allocating, service
from app.planning.child import SolverPool
from app.planning.questions import ALLOCATE, LP, SCHEDULE, SOLVE
from app.planning.schemas import PlanPage, PlanSummary, PlanView

_DOCUMENT = TypeAdapter(dict[str, Any])


router = APIRouter(prefix="/api/v1", tags=["plans"], dependencies=[User])

SOLVE_PATH = "/api/v1/solve"
ALLOCATE_PATH = "/api/v1/allocate"
LP_PATH = "/api/v1/lp"
SCHEDULE_PATH = "/api/v1/schedule"
LARGE_BODIES = (SOLVE_PATH, ALLOCATE_PATH, LP_PATH, SCHEDULE_PATH)


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


def _question(asked: str, answered: str, *, or_text: bool = False) -> dict[str, Any]:
    """What OpenAPI says of a question that the solver's process reads: the forms' names, and
    whether it may come as text too."""

    def of(form: str) -> dict[str, Any]:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{form}"}}}

    as_text = {"text/plain": {"schema": {"type": "string"}}} if or_text else {}
    return {
        "requestBody": {"required": True, "content": {**of(asked), **as_text}},
        "responses": {"200": {"description": f"The {answered}.", "content": of(answered)}},
    }


@router.post(
    SOLVE_PATH.removeprefix(router.prefix),
    response_class=Response,
    openapi_extra=_question("Problem", "Plan"),
)
async def solve(ctx: Ctx, request: Request) -> Response:
    """Solve a placement problem (contract, section 2). Nothing is stored."""
    return await _answered(ctx, request, await request.body(), SOLVE)


@router.post(
    ALLOCATE_PATH.removeprefix(router.prefix),
    response_class=Response,
    openapi_extra=_question("Jobs", "Allocation"),
)
async def allocate(ctx: Ctx, request: Request, policy: str | None = None) -> Response:
    """Share accelerators among jobs over time (contract, section 5). The policy may be named here
    or in the document; without one it's `max_min_fairness`. Nothing is stored."""
    document = allocating.question(await request.body(), policy)
    return await _answered(ctx, request, document, ALLOCATE)


@router.post(
    LP_PATH.removeprefix(router.prefix),
    response_class=Response,
    openapi_extra=_question("Program", "Solution"),
)
async def solve_program(ctx: Ctx, request: Request) -> Response:
    """Solve a linear program of one's own: the optimum with its duals, or what conflicts in it.
    An objective without a least value is refused, naming what can grow. Nothing is stored."""
    return await _answered(ctx, request, await request.body(), LP)


@router.post(
    SCHEDULE_PATH.removeprefix(router.prefix),
    response_class=Response,
    openapi_extra=_question("Project", "Schedule", or_text=True),
)
async def schedule(ctx: Ctx, request: Request) -> Response:
    """Say when each task of a project starts (contract, section 5). The text of a PSPLIB file
    (`.sm`) is taken too. Nothing is stored."""
    return await _answered(ctx, request, await request.body(), SCHEDULE)


async def _answered(ctx: Ctx, request: Request, document: bytes, question: str) -> Response:
    pool: SolverPool = request.app.state.solvers
    answer = await service.solve(ctx, pool, document, question)
    return Response(answer, media_type="application/json")


def _summary(row: Plan) -> dict[str, Any]:
    return {name: getattr(row, name) for name in PlanSummary.model_fields}
