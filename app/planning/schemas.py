"""What the API says of plans. The plan itself has the contract's form (section 3)."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class PlanSummary(BaseModel):
    id: str
    created_at: datetime
    trigger: str
    """``start`` (of the service) or ``change`` (a submission, an end, a node come or gone)."""
    status: str
    digest: str
    pending: int
    placed: int
    rejected: int
    """Placements that no longer held when the plan was committed; the next round places them
    anew."""
    seconds: float


class PlanView(PlanSummary):
    plan: dict[str, Any]


class PlanPage(BaseModel):
    items: list[PlanSummary]
    next_cursor: str | None
