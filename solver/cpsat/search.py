"""The lexicographic search: term after term, each held to what the earlier ones reached."""

from dataclasses import dataclass

from solver.cpsat.assignment import Answer, answer_from
from solver.cpsat.layout import Layout, lay_out
from solver.cpsat.merging import merge_nodes
from solver.cpsat.model import TermModel, Values, evaluate
from solver.cpsat.objective import Term
from solver.deadline import Deadline, OutOfTime
from solver.greedy import extend
from solver.problem import Budget, Slot

RESERVE_SECONDS = 0.3
"""What each later term is left at least; about what presolving one takes, twice."""
MERGED_RATIO = 0.5
"""How much of a term's time goes to its bound on merged nodes at most."""


@dataclass(frozen=True)
class Outcome:
    """The best answer found, with a bound for each term that holds for the problem as posed."""

    answer: dict[str, tuple[Slot, ...]]
    bounds: tuple[int, ...]


class ExactModel:
    """The CP-SAT model of a layout, and that of its merged nodes, with the search over terms."""

    def __init__(self, layout: Layout, budget: Budget, deadline: Deadline) -> None:
        self.layout = layout
        self.budget = budget
        self.deadline = deadline

    def solve(self, quick: Answer, free_bounds: tuple[int, ...]) -> Outcome | None:
        """Improves on the quick answer term by term. None if not even that could be loaded in time.

        ``free_bounds`` are proven without search: a term that reaches its own needs none. A bound
        that is found while earlier terms are held fixed holds for the problem only if those are
        proven.
        """
        try:
            named = TermModel(self.layout, self.budget, self.deadline)
            merged = self._merged()
        except OutOfTime:
            return None
        values = named.complete(quick)
        if values is None:
            return None
        bounds: list[int] = []
        is_proven = True
        for i, (term, free) in enumerate(zip(named.terms, free_bounds, strict=True)):
            later = len(named.terms) - 1 - i
            # A hard term leaves the later ones enough for a first improvement, but at most half.
            left = self.deadline.left()
            seconds = max(left / 2, left - RESERVE_SECONDS * later)
            bound = free
            if merged is not None and is_proven:
                at_hand = evaluate(term, values)
                bound = _bound_merged(merged, i, at_hand, free, MERGED_RATIO * seconds)
                seconds -= left - self.deadline.left()
                if bound != free:
                    named.limit(term, bound)
            values, bound = _improve(named, term, values, bound, seconds)
            bounds.append(bound if is_proven else free)
            at_hand = evaluate(term, values)
            is_proven = is_proven and bound == at_hand
            named.hold(term, at_hand, is_best=is_proven)
            if merged is not None and is_proven:
                merged.hold(merged.terms[i], at_hand, is_best=True)
            if term.name.is_maximised and later and named.terms[i + 1].name.is_maximised:
                values = self._extend(named, values)
        answer = answer_from(named.variables, lambda variable: values[variable.index])
        return Outcome(answer=answer, bounds=tuple(bounds))

    def _merged(self) -> TermModel | None:
        """The model with equal nodes as one; None where no two nodes are equal."""
        found = merge_nodes(self.layout.problem)
        if found is None:
            return None
        problem, copies = found
        layout = lay_out(problem, self.layout.size, self.deadline, copies)
        return None if layout is None else TermModel(layout, self.budget, self.deadline)

    def _extend(self, named: TermModel, values: Values) -> Values:
        """The solution with lower priority levels filled in: a level is blind to those below it."""
        answer = answer_from(named.variables, lambda variable: values[variable.index])
        return named.complete(extend(self.layout.problem, answer)) or values


def _bound_merged(merged: TermModel, i: int, at_hand: int, free: int, seconds: float) -> int:
    """The better of the free bound and of what the term reaches at most on merged nodes."""
    if at_hand == free or seconds <= 0:
        return free
    term = merged.terms[i]
    merged.hold(term, at_hand)
    return _tighter(term, free, merged.improve(term, None, seconds).bound)


def _improve(
    model: TermModel, term: Term, values: Values, bound: int, seconds: float
) -> tuple[Values, int]:
    """The best values found for the term and a bound on it, with all earlier terms held."""
    if evaluate(term, values) == bound or seconds <= 0:
        return values, bound
    found = model.improve(term, values, seconds)
    return found.values or values, _tighter(term, bound, found.bound)


def _tighter(term: Term, bound: int, other: int | None) -> int:
    if other is None:
        return bound
    return min(bound, other) if term.name.is_maximised else max(bound, other)
