"""The lexicographic search: term after term, each held to what the earlier ones reached."""

from dataclasses import dataclass

from ortools.sat.python import cp_model

from solver.cpsat.assignment import Answer, answer_from, hint_from
from solver.cpsat.constraints import add_rules
from solver.cpsat.layout import Layout
from solver.cpsat.objective import Term, make_terms
from solver.cpsat.preemption import justify_losses
from solver.cpsat.variables import Variables, make_variables
from solver.deadline import Deadline
from solver.greedy import extend
from solver.problem import Budget, Slot

RESERVE_SECONDS = 0.3
"""What each later term is left at least; about what presolving one takes, twice."""


@dataclass(frozen=True)
class Outcome:
    """The best answer found, with a bound for each term that holds for the problem as posed."""

    answer: dict[str, tuple[Slot, ...]]
    bounds: tuple[int, ...]


class ExactModel:
    """The CP-SAT model of a layout, with the search over its terms."""

    def __init__(self, layout: Layout, budget: Budget, deadline: Deadline) -> None:
        self.budget = budget
        self.deadline = deadline
        self.model = cp_model.CpModel()
        self.variables: Variables = make_variables(layout, self.model, deadline)
        add_rules(self.variables, deadline)
        justify_losses(self.variables)
        self.terms: tuple[Term, ...] = make_terms(self.variables)

    def solve(self, quick: Answer, free_bounds: tuple[int, ...]) -> Outcome | None:
        """Improves on the quick answer term by term. None if not even that could be loaded in time.

        ``free_bounds`` are proven without search: a term that reaches its own needs none. A bound
        that is found while earlier terms are held fixed holds for the problem only if those are
        proven.
        """
        values = self._complete(quick)
        if values is None:
            return None
        bounds: list[int] = []
        intact = True
        for term, free, later in zip(
            self.terms, free_bounds, range(len(self.terms) - 1, -1, -1), strict=True
        ):
            found, bound = self._improve(term, free, values, later)
            values = found
            bounds.append(bound if intact else free)
            at_hand = _evaluate(term, values)
            intact = intact and bound == at_hand
            self._hold(term, at_hand)
            if term.name.is_maximised and later and self.terms[-later].name.is_maximised:
                values = self._extend(values)
        answer = answer_from(self.variables, lambda variable: values[variable.index])
        return Outcome(answer=answer, bounds=tuple(bounds))

    def _extend(self, values: list[int]) -> list[int]:
        """The solution with lower priority levels filled in: a level is blind to those below it."""
        problem = self.variables.layout.problem
        answer = answer_from(self.variables, lambda variable: values[variable.index])
        return self._complete(extend(problem, answer)) or values

    def _complete(self, quick: Answer) -> list[int] | None:
        """Values of all variables, the auxiliary ones too, at the quick answer.

        A hint that leaves variables open is often lost; fixing the decisions and solving the rest
        costs milliseconds.
        """
        self.model.clear_hints()
        for variable, value in hint_from(self.variables, quick):
            self.model.add_hint(variable, value)
        solver = self._solver(self.deadline.left())
        solver.parameters.fix_variables_to_their_hinted_value = True
        return self._run(solver)

    def _improve(
        self, term: Term, free: int, values: list[int], later: int
    ) -> tuple[list[int], int]:
        """The best values found for the term and a bound on it, with all earlier terms held."""
        seconds = self.deadline.left()
        if _evaluate(term, values) == free or seconds <= 0:
            return values, free
        self._hint(values)
        if term.name.is_maximised:
            self.model.maximize(term.expression)
        else:
            self.model.minimize(term.expression)
        # A hard term leaves the later ones enough for a first improvement, but at most half.
        solver = self._solver(max(seconds / 2, seconds - RESERVE_SECONDS * later))
        found = self._run(solver)
        self.model.clear_objective()
        if found is None:
            return values, free  # the back end's bound is void when its status is unknown
        bound = round(solver.best_objective_bound)
        return found, min(bound, free) if term.name.is_maximised else max(bound, free)

    def _run(self, solver: cp_model.CpSolver) -> list[int] | None:
        status = solver.solve(self.model)
        response = solver.response_proto
        self.deadline.charge(
            wall_seconds=response.wall_time, deterministic_seconds=response.deterministic_time
        )
        solved = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
        return list(response.solution) if solved else None

    def _solver(self, seconds: float) -> cp_model.CpSolver:
        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.random_seed = self.budget.seed
        # Of CP-SAT's searches the one with the full linear relaxation proves these models soonest,
        # alone on one worker as well as beside others (measured on 14 models that the default left
        # open in 6 s).
        parameters.subsolvers.append("max_lp")
        # Probing costs a tenth of a second a term here and finds next to nothing.
        parameters.cp_model_probing_level = 0
        if self.budget.deterministic:
            parameters.num_workers = 1
            parameters.max_deterministic_time = seconds
        else:
            parameters.num_workers = self.budget.workers
            parameters.max_time_in_seconds = seconds
        return solver

    def _hint(self, values: list[int]) -> None:
        self.model.clear_hints()
        for i, value in enumerate(values):
            self.model.add_hint(self.model.get_int_var_from_proto_index(i), value)

    def _hold(self, term: Term, value: int) -> None:
        if term.name.is_maximised:
            self.model.add(term.expression >= value)
        else:
            self.model.add(term.expression <= value)


def _evaluate(term: Term, values: list[int]) -> int:
    flat = cp_model.FlatIntExpr(cp_model.LinearExpr.sum([term.expression]))
    return flat.offset + sum(
        coefficient * values[variable.index]
        for variable, coefficient in zip(flat.vars, flat.coeffs, strict=True)
    )
