"""The answer to a project: when each task starts, what that is worth and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    OPTIMAL = "optimal"
    """No schedule is better: ``bound`` is its value."""
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    """Proven: no schedule meets every deadline."""
    UNKNOWN = "unknown"
    """The time was too short to find a schedule that meets every deadline, or to prove that there
    is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule of a project. Without one (``infeasible``, ``unknown``) only the bound stands."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    status: Status
    objective: str
    value: int | None = None
    """What the objective is at these starts; for ``makespan`` that is the makespan."""
    makespan: int | None = None
    """When the last task ends."""
    bound: int | None = None
    """No schedule has a smaller value. None where there is no schedule at all."""
    gap: float | None = None
    """|bound - value| / max(1, |bound|)."""
    starts: Mapping[str, int] = field(default_factory=dict)
    slack: Mapping[str, int] = field(default_factory=dict)
    """How much later than its earliest start a task could start within this makespan and its
    deadlines if resources were plenty (docs/model.md, S8)."""
    critical: tuple[str, ...] = ()
    """The tasks that stay where they are when all are pushed as late as the makespan, the deadlines
    and the resources allow (S9)."""
    seconds: float = 0.0
