"""The placement solver as a library: a problem in, a plan out; no clock, no files, no network.

Two tasks, and two devices on one node. Shares may sit together; a whole device is nobody else's:

>>> from solver import Budget, Device, Node, Problem, Request, Task, check, solve, violations
>>> problem = Problem(
...     version=1,
...     nodes=(Node(id="n1", devices=(Device(id="0"), Device(id="1"))),),
...     tasks=(
...         Task(id="train", request=Request(gpus=1)),
...         Task(id="serve", replicas=2, request=Request(gpus=1, gpu_milli=400)),
...         Task(id="large", request=Request(gpus=4)),
...     ),
...     budget=Budget(deterministic=True),
... )
>>> plan = solve(problem)
>>> plan.status.value, [(term.name, term.value, term.bound) for term in plan.objective[:1]]
('optimal', [('placed', 1800, 1800)])
>>> {placement.task: len(placement.replicas) for placement in plan.placements}
{'train': 1, 'serve': 2}
>>> [(waiting.task, waiting.reasons[0].code.value) for waiting in plan.unplaced]
[('large', 'no_capacity')]
>>> violations(problem, plan)  # by the specification, which shares no code with what searches
()

:class:`Planner` is the solver for one arriving task at a time. docs/solver.md shows a problem, its
plan, a picture of it and how to read both; docs/model.md is the model in formulas.

Importing the package loads nothing else: each name is fetched from its module when it is first
asked for, so that reading a problem waits for no back end and checking a plan needs none installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solver import check
    from solver.check import Violation, violations
    from solver.deadline import Clock
    from solver.errors import Fault, InvalidPlan, InvalidProblem, SolverError
    from solver.instant import Decision, Move, Planner
    from solver.picture import ColourBy, draw
    from solver.pipeline import AnswerError, solve
    from solver.plan import (
        Fix,
        FixKind,
        ObjectiveTerm,
        ObjectiveValue,
        Placement,
        Plan,
        Reason,
        ReasonCode,
        Stats,
        Status,
        Step,
        StepKind,
        Unplaced,
    )
    from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
    from solver.replay import canonical_bytes, digest

_NAMES_OF = {
    "solver.check": ("Violation", "violations"),
    "solver.deadline": ("Clock",),
    "solver.errors": ("Fault", "InvalidPlan", "InvalidProblem", "SolverError"),
    "solver.instant": ("Decision", "Move", "Planner"),
    "solver.picture": ("ColourBy", "draw"),
    "solver.pipeline": ("AnswerError", "solve"),
    "solver.plan": (
        "Fix",
        "FixKind",
        "ObjectiveTerm",
        "ObjectiveValue",
        "Placement",
        "Plan",
        "Reason",
        "ReasonCode",
        "Stats",
        "Status",
        "Step",
        "StepKind",
        "Unplaced",
    ),
    "solver.problem": ("Budget", "Device", "Node", "Problem", "Queue", "Request", "Slot", "Task"),
    "solver.replay": ("canonical_bytes", "digest"),
}
# An import of a submodule binds its name here, over anything else of that name: so nothing in the
# table is called as a module of the package is. ``check`` is the module; ``check.score`` is in it.
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = [
    "AnswerError",
    "Budget",
    "Clock",
    "ColourBy",
    "Decision",
    "Device",
    "Fault",
    "Fix",
    "FixKind",
    "InvalidPlan",
    "InvalidProblem",
    "Move",
    "Node",
    "ObjectiveTerm",
    "ObjectiveValue",
    "Placement",
    "Plan",
    "Planner",
    "Problem",
    "Queue",
    "Reason",
    "ReasonCode",
    "Request",
    "Slot",
    "SolverError",
    "Stats",
    "Status",
    "Step",
    "StepKind",
    "Task",
    "Unplaced",
    "Violation",
    "canonical_bytes",
    "check",
    "digest",
    "draw",
    "solve",
    "violations",
]


def __getattr__(name: str) -> Any:
    if name == "check":
        return import_module("solver.check")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
