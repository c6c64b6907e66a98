"""The answer: who gets which fraction of the time on which type of accelerator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from solver.allocation.jobs import Policy

UNIT = {
    Policy.MAX_MIN_FAIRNESS: "ratio",
    Policy.FINISH_TIME_FAIRNESS: "ratio",
    Policy.MAKESPAN: "seconds",
    Policy.MAX_THROUGHPUT: "steps/second",
    Policy.MIN_COST: "steps/second per cost/hour",
    Policy.WATER_FILLING: "ratio",
}
"""Of each policy's ``objective``. A price has the same, per accelerator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """An answer of the contract's form (section 5)."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}

    policy: Policy
    status: Literal["optimal"]
    """Deadlines that can't be kept, and all else that has no answer, are refused as faults."""
    objective: float
    """The policy's value (docs/model.md, A3 to A8), computed from the shares."""
    unit: str
    shares: Mapping[str, Mapping[str, float]]
    """Job -> type -> fraction of the time; all types are named."""
    prices: Mapping[str, float]
    """Type -> how much better the objective would be with one more of them (A9)."""
    seconds: float
