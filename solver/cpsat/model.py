"""The CP-SAT model of a layout, and its search for one term at a time."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar, LinearExpr, LinearExprT

from solver.cpsat.assignment import Answer, hint_from
from solver.cpsat.constraints import add_rules
from solver.cpsat.layout import Layout
from solver.cpsat.objective import Term, make_terms
from solver.cpsat.preemption import justify_losses
from solver.cpsat.tightening import tighten
from solver.cpsat.variables import Variables, make_variables
from solver.deadline import Deadline
from solver.objective import TermName
from solver.problem import WHOLE_DEVICE_MILLI, Budget

Values = list[int]
"""A value of each variable, by its index; of those that the model had when it was found."""


@dataclass(frozen=True)
class Found:
    """What one search gave: the best values, and a bound on the term; None for what it didn't
    find.
    """

    values: Values | None
    bound: int | None


class TermModel:
    """Variables, rules and terms. Terms that are done are held at what they reached."""

    def __init__(self, layout: Layout, budget: Budget, deadline: Deadline) -> None:
        """Builds the model. Raises OutOfTime when the deadline passes on the way."""
        self.budget = budget
        self.deadline = deadline
        self.model = cp_model.CpModel()
        self.variables: Variables = make_variables(layout, self.model, deadline)
        add_rules(self.variables, deadline)
        tighten(self.variables, deadline)
        justify_losses(self.variables)
        deadline.enforce()
        self.terms: tuple[Term, ...] = make_terms(self.variables)
        deadline.enforce()
        self._placed: dict[int | None, int] = {}

    def complete(self, answer: Answer) -> Values | None:
        """Values of all variables, the auxiliary ones too, at the answer.

        A hint that leaves variables open is often lost; fixing the decisions and solving the rest
        costs milliseconds.
        """
        self.model.clear_hints()
        for variable, value in hint_from(self.variables, answer):
            self.model.add_hint(variable, value)
        solver = self._solver(self.deadline.left())
        solver.parameters.fix_variables_to_their_hinted_value = True
        return self._run(solver)

    def follow(
        self, term: Term, sums: Iterable[tuple[LinearExprT, int]], seconds: float
    ) -> Values | None:
        """The best values found at which none of these sums is more than what it may be."""
        whole = self.model
        self.model = whole.clone()
        try:
            for total, most in sums:
                self.model.add(total <= most)
            return self.improve(term, None, seconds).values
        finally:
            self.model = whole

    def improve(self, term: Term, values: Values | None, seconds: float) -> Found:
        """Searches on from these values, if there are any, with all that is held."""
        self.model.clear_hints()
        # Values that a clone found may go on with variables that only the clone had.
        for i, value in enumerate((values or ())[: len(self.model.proto.variables)]):
            self.model.add_hint(self.model.get_int_var_from_proto_index(i), value)
        objective = self._objective(term, values)
        if term.name.is_maximised:
            self.model.maximize(objective)
        else:
            self.model.minimize(objective)
        solver = self._solver(seconds)
        found = self._run(solver)
        self.model.clear_objective()
        # The back end's bound is void when its status is unknown.
        return Found(found, None if found is None else round(solver.best_objective_bound))

    def limit(self, term: Term, bound: int) -> None:
        """Keeps the term from being better than a bound that is proven."""
        if term.name.is_maximised:
            self.model.add(term.expression <= bound)
        else:
            self.model.add(term.expression >= bound)

    def hold(self, term: Term, value: int, *, is_best: bool = False) -> None:
        """Keeps the term from being worse than this; and from being better, if that can't be."""
        if is_best:
            self.model.add(term.expression == value)
            if term.name is TermName.PLACED:
                self._placed[term.level] = value
        elif term.name.is_maximised:
            self.model.add(term.expression >= value)
        else:
            self.model.add(term.expression <= value)

    def _objective(self, term: Term, values: Values | None) -> LinearExprT:
        """The term, fragmentation in the form in which the search sees that it moves in steps.

        What is free on devices in use is all that they have less what is placed on them. Once
        ``placed`` is fixed, all that is left to count is devices, and replicas without one.
        """
        placed = [other for other in self.terms if other.name is TermName.PLACED]
        is_fixed = placed and all(other.level in self._placed for other in placed)
        if term.name is not TermName.FRAGMENTATION or not is_fixed:
            return term.expression
        total = LinearExpr.sum([term.expression, *(other.expression for other in placed)])
        offset, factors = _flat(total)
        devices = {i: f for i, f in factors.items() if f and f % WHOLE_DEVICE_MILLI == 0}
        rest = {i: f for i, f in factors.items() if f % WHOLE_DEVICE_MILLI}
        problem = self.variables.layout.problem
        most = sum(len(node.devices) for node in problem.nodes)
        most *= max(self.variables.layout.copies, default=1)
        # Over-full devices, which several hold whole, make the count differ from their number.
        extra = sum(len(slot.devices) for task in problem.tasks for slot in task.placed)
        in_use = self.model.new_int_var(-extra, most + extra, "")
        self.model.add(WHOLE_DEVICE_MILLI * in_use == self._sum(devices))
        if values is not None:
            at_hand = sum(factor * values[i] for i, factor in devices.items())
            self.model.add_hint(in_use, at_hand // WHOLE_DEVICE_MILLI)
        fixed = offset - sum(self._placed.values())
        return WHOLE_DEVICE_MILLI * in_use + self._sum(rest) + fixed

    def _sum(self, factors: dict[int, int]) -> LinearExpr:
        variables: list[IntVar] = [self.model.get_int_var_from_proto_index(i) for i in factors]
        return LinearExpr.weighted_sum(variables, list(factors.values()))

    def _run(self, solver: cp_model.CpSolver) -> Values | None:
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


def evaluate(expression: LinearExprT, values: Values) -> int:
    """What the expression is worth at these values."""
    offset, factors = _flat(LinearExpr.sum([expression]))
    return offset + sum(factor * values[i] for i, factor in factors.items())


def _flat(expression: LinearExpr) -> tuple[int, dict[int, int]]:
    """The expression's constant, and the factor of each variable by its index."""
    flat = cp_model.FlatIntExpr(expression)
    factors: dict[int, int] = defaultdict(int)
    for variable, factor in zip(flat.vars, flat.coeffs, strict=True):
        factors[variable.index] += factor
    return flat.offset, factors
