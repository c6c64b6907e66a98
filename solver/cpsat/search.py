"""The lexicographic search: one term after the other, each bound by what the earlier ones reached."""

from collections.abc import Callable
from dataclasses import dataclass

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar

from solver.cpsat.assignment import Answer, answer_from, hint_from
from solver.cpsat.constraints import add_rules
from solver.cpsat.layout import Layout
from solver.cpsat.objective import Term, make_terms
from solver.cpsat.preemption import justify_losses
from solver.cpsat.variables import Variables, make_variables
from solver.problem import Budget

Left = Callable[[], float]
"""Seconds that are left; reads the clock that was passed in."""


@dataclass(frozen=True)
class Proof:
    """What the search can say of one term: its value and a bound, None where nothing is proven."""

    value: int
    bound: int | None


@dataclass(frozen=True)
class Outcome:
    """The best answer found and one proof a term, as far as the time allowed."""

    answer: dict[str, tuple]
    proofs: tuple[Proof, ...]


class ExactModel:
    """The CP-SAT model of a layout, with the search over its terms."""

    def __init__(self, layout: Layout, budget: Budget) -> None:
        self.budget = budget
        self.model = cp_model.CpModel()
        self.variables: Variables = make_variables(layout, self.model)
        add_rules(self.variables)
        justify_losses(self.variables)
        self.terms: tuple[Term, ...] = make_terms(self.variables)
        self.deterministic_time = 0.0

    def solve(self, quick: Answer, floors: tuple[int, ...], left: Left) -> Outcome | None:
        """Improves on the quick answer term by term. None if not even that could be loaded in time.

        ``floors`` holds for each term a bound that is proven without search: a term that reaches it
        needs none.
        """
        values = self._complete(quick, left)
        if values is None:
            return None
        proofs: list[Proof] = []
        intact = True  # every earlier term is proven, so what they were fixed at is the optimum's
        for term, floor in zip(self.terms, floors, strict=True):
            values, proof = self._improve(term, floor, values, left)
            proofs.append(proof if intact else Proof(proof.value, None))
            intact = intact and proof.bound == proof.value
            self._fix(term, proof.value)
        return Outcome(answer=answer_from(self.variables, lambda v: values[v.index]), proofs=tuple(proofs))

    def _complete(self, quick: Answer, left: Left) -> list[int] | None:
        """Values of all variables, the auxiliary ones too, at the quick answer.

        A hint that leaves variables open is often lost; fixing the decisions and solving the rest costs
        milliseconds.
        """
        for variable, value in hint_from(self.variables, quick):
            self.model.add_hint(variable, value)
        solver = self._solver(left)
        solver.parameters.fix_variables_to_their_hinted_value = True
        status = solver.solve(self.model)
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return None
        return list(solver.response_proto.solution)

    def _improve(
        self, term: Term, floor: int, values: list[int], left: Left
    ) -> tuple[list[int], Proof]:
        at_hand = self._value(term, values)
        if at_hand == floor:
            return values, Proof(at_hand, floor)
        if left() <= 0:
            return values, Proof(at_hand, None)
        self._hint(values)
        if term.name.is_maximised:
            self.model.maximize(term.expression)
        else:
            self.model.minimize(term.expression)
        solver = self._solver(left)
        status = solver.solve(self.model)
        self.model.clear_objective()
        if status not in {cp_model.OPTIMAL, cp_model.FEASIBLE}:
            return values, Proof(at_hand, None)  # the bound is void when the status is unknown
        found = list(solver.response_proto.solution)
        bound = round(solver.best_objective_bound)
        value = self._value(term, found)
        if status == cp_model.OPTIMAL:
            bound = value
        return found, Proof(value, bound)

    def _solver(self, left: Left) -> cp_model.CpSolver:
        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.random_seed = self.budget.seed
        if self.budget.deterministic:
            parameters.num_workers = 1
            parameters.max_deterministic_time = max(0.01, left())
        else:
            parameters.num_workers = self.budget.workers
            parameters.max_time_in_seconds = max(0.01, left())
        return solver

    def _hint(self, values: list[int]) -> None:
        self.model.clear_hints()
        for i, value in enumerate(values):
            self.model.add_hint(self.model.get_int_var_from_proto_index(i), value)

    def _value(self, term: Term, values: list[int]) -> int:
        return _evaluate(term, values)

    def _fix(self, term: Term, value: int) -> None:
        if term.name.is_maximised:
            self.model.add(term.expression >= value)
        else:
            self.model.add(term.expression <= value)


def _evaluate(term: Term, values: list[int]) -> int:
    flat = cp_model.FlatIntExpr(term.expression)
    return flat.offset + sum(
        coefficient * values[variable.index]
        for variable, coefficient in zip(flat.vars, flat.coeffs, strict=True)
    )
