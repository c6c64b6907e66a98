"""What the time plan is asked: who runs and who waits, how long each takes, and what is booked."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Le

from solver.errors import Fault, InvalidProblem
from solver.problem import Id, Problem, Task
from solver.reading import fault_at

FRACTIONS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""At which a forecast gives its quantiles."""
SECONDS_MAX = 1e10
DAY_SECONDS = 86_400.0
DRAWS_MAX = 1_000

_STRICT = {"extra": "forbid", "strict": True}

Quantiles = tuple[float, ...]
"""Seconds at FRACTIONS, rising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From ``start`` to ``end``, in seconds from now, these nodes are for tasks of one queue and of
    those below it; without one, for nobody."""

    __pydantic_config__ = _STRICT

    nodes: tuple[Id, ...]
    start_seconds: float
    end_seconds: float
    queue: Id | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeQuestion:
    """Who starts when. Tasks that are ``placed`` run there; the others wait, by priority, and those
    of one priority in the problem's order. Raises :class:`InvalidProblem` with every fault.

    The budget and the objective of the problem mean nothing here.
    """

    __pydantic_config__ = _STRICT

    problem: Problem
    forecasts: Mapping[Id, Quantiles] = field(default_factory=dict)
    """Task -> how long it still runs, or, of one that waits, how long it will. A task that isn't
    here is taken never to end."""
    windows: tuple[Window, ...] = ()
    horizon_seconds: float = 30 * DAY_SECONDS
    """What doesn't start until then is said not to start."""
    draws: Annotated[int, Ge(1), Le(DRAWS_MAX)] = 31
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0

    def __post_init__(self) -> None:
        faults = tuple(question_faults(self))
        if faults:
            raise InvalidProblem(faults)

    @property
    def running(self) -> tuple[Task, ...]:
        return tuple(task for task in self.problem.tasks if task.placed)

    @property
    def waiting(self) -> tuple[Task, ...]:
        """In their order (docs/model.md, T2)."""
        waiting = (task for task in self.problem.tasks if not task.placed)
        return tuple(sorted(waiting, key=lambda task: -task.priority))


def question_faults(asked: TimeQuestion) -> Iterator[Fault]:
    """What is wrong beyond the problem itself, which was checked when it was made."""
    tasks = {task.id for task in asked.problem.tasks}
    for name, seconds in asked.forecasts.items():
        yield from _forecast_faults(f"forecasts.{name}", seconds)
        if name not in tasks:
            yield fault_at(f"forecasts.{name}", name, "is no task of this problem")
    nodes = {node.id for node in asked.problem.nodes}
    queues = {"default"} | {queue.id for queue in asked.problem.queues}
    for i, window in enumerate(asked.windows):
        yield from _window_faults(f"windows[{i}]", window, nodes, queues)
    if not 0 < asked.horizon_seconds <= SECONDS_MAX:
        reason = f"has to be above 0 and at most {SECONDS_MAX:g} seconds"
        yield fault_at("horizon_seconds", asked.horizon_seconds, reason)
    if not 1 <= asked.draws <= DRAWS_MAX:
        yield fault_at("draws", asked.draws, f"has to be from 1 to {DRAWS_MAX}")
    if not 0 <= asked.seed < 2**31:
        yield fault_at("seed", asked.seed, "has to be from 0 to 2147483647")


def _forecast_faults(path: str, seconds: Quantiles) -> Iterator[Fault]:
    if len(seconds) != len(FRACTIONS):
        yield fault_at(path, seconds, f"has to give {len(FRACTIONS)} quantiles")
    if not all(math.isfinite(one) and 0 <= one <= SECONDS_MAX for one in seconds):
        reason = f"holds seconds that aren't from 0 to {SECONDS_MAX:g}"
        yield fault_at(path, list(seconds), reason)
    elif any(later < earlier for earlier, later in pairwise(seconds)):
        yield fault_at(path, list(seconds), "holds quantiles that fall")


def _window_faults(path: str, window: Window, nodes: set[str], queues: set[str]) -> Iterator[Fault]:
    for j, node in enumerate(window.nodes):
        if node not in nodes:
            yield fault_at(f"{path}.nodes[{j}]", node, "is no node of this problem")
    if window.queue is not None and window.queue not in queues:
        yield fault_at(f"{path}.queue", window.queue, "is no queue of this problem")
    for name in ("start_seconds", "end_seconds"):
        if not abs(getattr(window, name)) <= SECONDS_MAX:
            reason = f"has to be a number of at most {SECONDS_MAX:g} seconds"
            yield fault_at(f"{path}.{name}", getattr(window, name), reason)
    if not window.start_seconds < window.end_seconds:
        yield fault_at(f"{path}.end_seconds", window.end_seconds, "isn't after the window's start")
