"""HiGHS behind :class:`~solver.allocation.program.Program`: the optimum, or why there is none."""

from collections.abc import Callable, Iterator

import highspy
import numpy as np

from solver.allocation.conflict import find_conflict
from solver.allocation.matrices import Matrices, load, run
from solver.allocation.program import Duals, Program, Solution
from solver.errors import Fault, InvalidProblem
from solver.reading import fault_at

_RAY_PRECISION = 1e-9
"""Relative: a smaller step of a ray is rounding."""


def solve(program: Program, *, clock: Callable[[], float] = lambda: 0.0) -> Solution:
    """The optimum, or what can't hold together.

    ``clock`` gives seconds. Raises :class:`InvalidProblem` with the variables that can grow without
    end where the objective has no least value.
    """
    start = clock()

    def left() -> float:
        return max(0.01, program.budget.seconds - (clock() - start))

    problem = Matrices.of(program)
    highs = load(problem, integral=True, seconds=left())
    status = run(highs)
    kinds = highspy.HighsModelStatus
    if status == kinds.kUnboundedOrInfeasible or (
        status == kinds.kUnbounded and problem.integral.any()
    ):
        # Without an objective only one of the two is left.
        highs = load(problem, integral=True, seconds=left(), cost=np.zeros_like(problem.cost))
        status = run(highs)
        if status == kinds.kOptimal:
            status = kinds.kUnbounded
    if status == kinds.kUnbounded:
        raise InvalidProblem(tuple(_ray_faults(program, problem, left())))
    if status == kinds.kInfeasible:
        found = find_conflict(problem, left)
        conflict = problem.paths(found.rows, found.bounds)
        if found.needs_integrality:
            conflict = (*conflict, "integrality")
        return Solution(
            status="infeasible",
            conflict=conflict,
            irreducible=found.irreducible,
            seconds=clock() - start,
        )
    return _solution(problem, highs, status, clock() - start)


def _solution(
    problem: Matrices,
    highs: highspy.Highs,
    status: highspy.HighsModelStatus,
    seconds: float,
) -> Solution:
    info, found = highs.getInfo(), highs.getSolution()
    is_mixed = bool(problem.integral.any())
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Solution(status="timeout", seconds=seconds)
    x = np.asarray(found.col_value, dtype=np.float64)
    x = np.where(problem.integral, np.rint(x), x)
    done = status == highspy.HighsModelStatus.kOptimal
    duals = None
    if done and not is_mixed:
        row, column = found.row_dual, found.col_dual
        duals = Duals(
            b=_plain(row[: problem.inequalities]),
            b_eq=_plain(row[problem.inequalities :]),
            bounds=_plain(column),
        )
    bound = float(info.mip_dual_bound) if is_mixed else None
    return Solution(
        status="optimal" if done else "feasible",
        x=_plain(x),
        objective=float(problem.cost @ x),
        bound=bound if bound is not None and np.isfinite(bound) else None,
        duals=duals,
        seconds=seconds,
    )


def _ray_faults(program: Program, problem: Matrices, seconds: float) -> Iterator[Fault]:
    """A fault for each variable that moves along a ray on which the objective falls for ever."""
    highs = load(problem, integral=False, seconds=seconds)
    highs.setOptionValue("presolve", "off")
    highs.setOptionValue("solver", "simplex")
    run(highs)
    _, known, ray = highs.getPrimalRay()  # pyright: ignore[reportAttributeAccessIssue]
    if known:
        step = np.asarray(ray, dtype=np.float64)
    else:  # there are no rows: any variable may go by itself
        free = np.where(problem.cost > 0, problem.lower == -np.inf, problem.upper == np.inf)
        step = np.where(free, -problem.cost, 0.0)
    largest = float(np.abs(step).max(initial=0.0)) or 1.0
    for j in np.flatnonzero(np.abs(step) > _RAY_PRECISION * largest).tolist():
        way = "grow" if step[j] > 0 else "fall"
        reason = f"the objective has no least value: x[{j}] can {way} without end"
        together = "" if len(step) == 1 else f", by {abs(step[j]) / largest:.6g} a step"
        yield fault_at(f"c[{j}]", program.c[j], reason + together)


def _plain(values: object) -> tuple[float, ...]:
    return tuple((np.asarray(values, dtype=np.float64) + 0.0).tolist())
