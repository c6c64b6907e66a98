"""The lexicographic search: term after term, each held to what the earlier ones reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from ortools.sat.python.cp_model import LinearExpr, LinearExprT

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
WORTH_MERGING_RATIO = 0.8
"""With more nodes than this left, a second model costs more than it tells."""
MERGED_RATIO = 0.5
"""How much of a term's time goes to its bound on merged nodes at most."""
FOLLOW_RATIO = 0.15
"""How much of it goes to finding a plan that has what the best one on merged nodes has."""


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
                values, bound = merged.guide(named, i, values, free, seconds)
                seconds -= left - self.deadline.left()
            values, bound = _improve(named, term, values, bound, seconds)
            bounds.append(bound if is_proven else free)
            at_hand = evaluate(term.expression, values)
            is_proven = is_proven and bound == at_hand
            named.hold(term, at_hand, is_best=is_proven)
            if merged is not None and is_proven:
                merged.hold(i, at_hand)
            if term.name.is_maximised and later and named.terms[i + 1].name.is_maximised:
                values = self._extend(named, values)
        answer = answer_from(named.variables, lambda variable: values[variable.index])
        return Outcome(answer=answer, bounds=tuple(bounds))

    def _merged(self) -> "_Merged | None":
        """The model with equal nodes as one; None where next to no nodes are equal."""
        found = merge_nodes(self.layout.problem)
        if found is None:
            return None
        problem, members = found
        if len(members) > WORTH_MERGING_RATIO * len(self.layout.problem.nodes):
            return None
        copies = tuple(map(len, members))
        layout = lay_out(problem, self.layout.size, self.deadline, copies)
        if layout is None:
            return None
        return _Merged(TermModel(layout, self.budget, self.deadline), members)

    def _extend(self, named: TermModel, values: Values) -> Values:
        """The solution with lower priority levels filled in: a level is blind to those below it."""
        answer = answer_from(named.variables, lambda variable: values[variable.index])
        return named.complete(extend(self.layout.problem, answer)) or values


class _Merged:
    """The model of merged nodes: a bound on each term, and a plan to follow."""

    def __init__(self, model: TermModel, members: tuple[tuple[int, ...], ...]) -> None:
        self.model = model
        self.members = members
        self.values: Values | None = None

    def guide(
        self, named: TermModel, i: int, values: Values, free: int, seconds: float
    ) -> tuple[Values, int]:
        """Values that are as good in term i as on merged nodes, if such are found at once, and the
        term's bound there.
        """
        term, own = named.terms[i], self.model.terms[i]
        at_hand = evaluate(term.expression, values)
        if at_hand == free or seconds <= 0:
            return values, free
        self.model.hold(own, at_hand)
        found = self.model.improve(own, self.values, MERGED_RATIO * seconds)
        self.values = found.values or self.values
        bound = _tighter(term, free, found.bound)
        if found.values is None or at_hand == bound:
            return values, bound
        if evaluate(own.expression, found.values) == at_hand:
            return values, bound
        named.limit(term, bound)
        followed = named.follow(term, self._sums(named, found.values), FOLLOW_RATIO * seconds)
        if followed is None or not _is_better(term, followed, at_hand):
            return values, bound
        return followed, bound

    def hold(self, i: int, value: int) -> None:
        """Holds term i at its proven optimum."""
        self.model.hold(self.model.terms[i], value, is_best=True)
        if (
            self.values is not None
            and evaluate(self.model.terms[i].expression, self.values) != value
        ):
            self.values = None

    def _sums(self, named: TermModel, values: Values) -> Iterator[tuple[LinearExprT, int]]:
        """How many replicas of each group all nodes together have that were merged into one."""
        theirs = named.variables.on
        for (group, node), on in self.model.variables.on.items():
            members = [theirs[group, i] for i in self.members[node] if (group, i) in theirs]
            yield LinearExpr.sum(members), evaluate(on, values)


def _improve(
    model: TermModel, term: Term, values: Values, bound: int, seconds: float
) -> tuple[Values, int]:
    """The best values found for the term and a bound on it, with all earlier terms held."""
    if evaluate(term.expression, values) == bound or seconds <= 0:
        return values, bound
    found = model.improve(term, values, seconds)
    return found.values or values, _tighter(term, bound, found.bound)


def _is_better(term: Term, values: Values, at_hand: int) -> bool:
    value = evaluate(term.expression, values)
    return value > at_hand if term.name.is_maximised else value < at_hand


def _tighter(term: Term, bound: int, other: int | None) -> int:
    if other is None:
        return bound
    return min(bound, other) if term.name.is_maximised else max(bound, other)
