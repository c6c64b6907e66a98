"""Plans that count: each is checked, each proof is held against every other run, and each run's
overtime is kept.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.harness import Case
from benchmarks.instances import large_problem, small_problem
from solver import solve
from solver.check import violations
from solver.objective import TermName
from solver.plan import ObjectiveTerm, Plan
from solver.problem import Problem

WORKERS = 2
MOST_OVERTIME_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One solved problem and how long it took beyond its budget."""

    name: str
    overtime_seconds: float


class CheckedSolver:
    """``solve`` as it is, on the wall clock, with two workers."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def load(self) -> None:
        """Imports the back ends and the compiled code, so that no case pays for it."""
        self.plan(small_problem(0), seconds=0.5)
        self.plan(large_problem(0, nodes=20, tasks=200), seconds=0.5)
        self.runs.clear()

    def plan(self, problem: Problem, *, seconds: float) -> Plan:
        """Raises ``RuntimeError`` for a plan that breaks a rule."""
        asked = replace(problem, budget=replace(problem.budget, seconds=seconds, workers=WORKERS))
        start = time.perf_counter()
        plan = solve(asked, clock=time.perf_counter)
        taken = time.perf_counter() - start
        if seconds > 0:
            name = f"{len(problem.tasks)} tasks, {len(problem.nodes)} nodes, {seconds:.0f} s"
            self.runs.append(Run(name=name, overtime_seconds=max(0.0, taken - seconds)))
        found = violations(asked, plan)
        if found:
            raise RuntimeError(f"the plan of {plan.stats.digest} breaks a rule: {found[0].text}")
        return plan

    def overtime(self) -> Case:
        """The worst of all runs so far, by the clock of the caller, not by ``stats.seconds``."""
        worst = max(self.runs, key=lambda run: run.overtime_seconds)
        return Case(
            case="deadline, all runs with a budget: longest time over it",
            value=worst.overtime_seconds,
            unit="s",
            better="lower",
            must=MOST_OVERTIME_SECONDS,
            note=f"{len(self.runs)} runs; {worst.name}",
        )


def compare_proofs(plans: Sequence[Plan]) -> None:
    """Raises ``RuntimeError`` if one run of a problem found more than another one proved possible.

    An entry's bound speaks of the best plan, so it binds the plans that have the proven optimum in
    all entries before it. Only the levels of ``placed`` are compared.
    """
    for proof in plans:
        for plan in plans:
            for proven, found in zip(proof.objective, plan.objective, strict=False):
                if proven.name != TermName.PLACED:
                    break
                if found.value > proven.bound:
                    raise RuntimeError(
                        f"{found.name} {found.value} was found, and at most {proven.bound} proven"
                    )
                if not found.value == proven.value == proven.bound:
                    break


def gap_of(terms: Sequence[ObjectiveTerm]) -> float:
    """The gap of several entries of ``placed`` together: of the sum of their values to that of
    their bounds.
    """
    values, bounds = (sum(term.value for term in terms), sum(term.bound for term in terms))
    return (bounds - values) / max(1, bounds)
