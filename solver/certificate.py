"""What is proven about a problem's objective, and what room is worth (model.md, section 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from solver.arrays import Arrays
from solver.bounds import free_bounds
from solver.objective import TermName
from solver.problem import Problem
from solver.score import levels, terms_of

if TYPE_CHECKING:  # a quick answer shouldn't wait for the linear programs
    from solver.highs.relaxation import Relaxation

TOLERANCE = 1e-6
"""Of the linear program, for what it says of itself; no bound depends on it."""
MOST_LEVELS = 24
"""One linear program a priority level; with more levels only the bounds that cost nothing."""

Bounds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the objective; ``level`` for those of ``placed``."""

    term: TermName
    level: int | None = None


def entries_of(problem: Problem) -> tuple[Entry, ...]:
    """The entries of the objective in their order."""
    return tuple(
        Entry(term, level)
        for term in terms_of(problem)
        for level in (levels(problem) if term is TermName.PLACED else (None,))
    )


class Certificate:
    """Bounds on a problem's entries that hold whoever finds the plan."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.free: Bounds = free_bounds(problem)
        self.relaxation: Relaxation | None = None
        self._entries = entries_of(problem)

    def relax(self, arrays: Arrays, seconds: float) -> None:
        """Adds the bounds of a linear program, which may take so long."""
        places = any(entry.level is not None for entry in self._entries)
        if places and self.problem.nodes and len(levels(self.problem)) <= MOST_LEVELS:
            from solver.highs.relaxation import Relaxation  # noqa: PLC0415

            limit = None if self.problem.budget.deterministic else seconds
            self.relaxation = Relaxation(arrays, seconds=limit)

    def bounds(self, values: Bounds) -> Bounds:
        """One for each entry, given the values of some plan that breaks no rule.

        The best plan has at least these values in each entry up to the first whose value isn't
        proven, and in that one too. Behind it nothing is known of its values.
        """
        if self.relaxation is None:
            return self.free
        found = []
        at_least: dict[int, int] = {}
        is_known = True
        for entry, value, free in zip(self._entries, values, self.free, strict=True):
            bound = free
            if entry.level is not None and value != free:
                bound = min(free, self.relaxation.bound(entry.level, at_least))
            found.append(bound)
            if is_known and entry.level is not None:
                at_least[entry.level] = value
            is_known = is_known and value == bound
        return tuple(found)

    def scarce_level(self, relaxation: "Relaxation") -> int:
        """The highest level that can't have all it asks for: its prices are those that matter."""
        return next(self._short_levels(relaxation), relaxation.levels[-1])

    def _short_levels(self, relaxation: "Relaxation") -> Iterator[int]:
        asked = dict.fromkeys(relaxation.levels, 0)
        for task in self.problem.tasks:
            asked[task.priority] += task.replicas * task.request.weight
        for level, value in zip(relaxation.levels, relaxation.values, strict=True):
            if value < (1 - TOLERANCE) * asked[level]:
                yield level

    def prices(self) -> dict[str, dict[str, float]]:
        """Dimension -> device model -> what one more unit is worth in the scarce level, and under
        ``node`` the first node of each class -> what one more like it is. Empty without a linear
        program; all 0 where no level lacks anything, whatever the program's duals say.
        """
        relaxation = self.relaxation
        if relaxation is None or not relaxation.levels:
            return {}
        level = self.scarce_level(relaxation)
        found = relaxation.prices(level) | {"node": relaxation.node_prices(level)}
        if next(self._short_levels(relaxation), None) is None:
            return {dimension: dict.fromkeys(prices, 0.0) for dimension, prices in found.items()}
        return found
