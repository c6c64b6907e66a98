"""A project: tasks with durations, the order among them, and the resources that they share.

The classes are the JSON form (``docs/contract``, section 5), field by field. Times are whole
numbers
of whatever unit the project counts in; one that needs fractions takes a finer unit. Constructing a
:class:`Project` raises :class:`~solver.errors.InvalidProblem` with every fault at once.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from annotated_types import Ge, Le

from solver import problem
from solver.errors import InvalidProblem
from solver.problem import Id, Quantity, Word
from solver.scheduling.projects import faults
from solver.validity import bound_faults

_STRICT = {"extra": "forbid", "strict": True}


class Objective(StrEnum):
    """What is to be as small as can be (docs/model.md, S5)."""

    MAKESPAN = "makespan"
    WEIGHTED_COMPLETION = "weighted_completion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of a project. It runs once, without a break, from its start for its duration."""

    __pydantic_config__ = _STRICT

    id: Id
    duration: Quantity
    request: Mapping[Word, Quantity] = field(default_factory=dict)
    """What it holds of each resource while it runs; none of those it doesn't name."""
    after: tuple[Id, ...] = ()
    """The tasks that have to be over before it starts."""
    release: Quantity = 0
    """It starts no earlier."""
    deadline: Quantity | None = None
    """It is over by then; None = it may take as long as it takes."""
    weight: Quantity = 1
    """What one unit of time until its end costs; only ``weighted_completion`` reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long the solver may think."""

    __pydantic_config__ = _STRICT

    seconds: Annotated[float, Ge(0), Le(1e6)] = 5.0
    workers: Annotated[int, Ge(1), Le(1024)] = 2
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    deterministic: bool = False
    """One worker and deterministic time: the same schedule on every run."""

    def as_of_placement(self) -> problem.Budget:
        """The same, for what counts a placement's budget down."""
        return problem.Budget(
            seconds=self.seconds,
            workers=self.workers,
            seed=self.seed,
            deterministic=self.deterministic,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The question: when does each task start?"""

    __pydantic_config__ = _STRICT

    version: Literal[1]
    resources: Mapping[Word, Quantity] = field(default_factory=dict)
    """Resource -> how much of it there is, at every moment."""
    tasks: tuple[Task, ...]
    objective: Literal["makespan", "weighted_completion"] = "makespan"
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        found = (*bound_faults(self), *faults.semantic_faults(self))
        if found:
            raise InvalidProblem(found)

    def with_budget(self, budget: Budget) -> "Project":
        """The same question with another budget. Raises InvalidProblem for a budget that can't
        be.
        """
        found = tuple(bound_faults(budget, "budget"))
        if found:
            raise InvalidProblem(found)
        changed = copy(self)
        object.__setattr__(changed, "budget", budget)
        return changed
