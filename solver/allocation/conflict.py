"""Why a program has no solution: rows and bounds that can't hold together, none of them in vain.

A Farkas ray names candidates; each is then left out in turn, and stays out if the rest still can't
hold (the deletion filter: Chinneck and Dravnieks, ORSA Journal on Computing 3, 1991).
"""

from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np

from solver.allocation.fleet import Flags
from solver.allocation.matrices import Matrices, load, run

_RAY_PRECISION = 1e-9
"""Relative: a smaller part in the proof is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What can't hold together."""

    rows: list[int]
    bounds: list[int]
    needs_integrality: bool
    """True: fractions could do it."""
    irreducible: bool
    """False where the time didn't suffice to try to leave out each one."""


def find_conflict(problem: Matrices, left: Callable[[], float]) -> Conflict:
    """Of a problem that is known to have no solution; ``left`` gives the seconds that are left."""
    ray = _farkas_ray(problem, left())
    all_bounds = np.isfinite(problem.lower) | np.isfinite(problem.upper)
    candidates = _Candidates(problem, left, integral=ray is None)
    if ray is None:
        candidates.keep_only(np.ones(problem.rows.shape[0], dtype=bool), all_bounds)
    else:
        pull = np.abs(problem.rows.T @ ray)
        rows = np.abs(ray) > _RAY_PRECISION * np.abs(ray).max()
        candidates.keep_only(rows, all_bounds & (pull > _RAY_PRECISION * pull.max(initial=0.0)))
        if not candidates.are_in_conflict():  # by rounding the ray named too little
            candidates.keep_only(np.ones_like(rows), all_bounds)
    irreducible = candidates.leave_out_what_can_be()
    return Conflict(
        rows=np.flatnonzero(candidates.rows).tolist(),
        bounds=np.flatnonzero(candidates.bounds).tolist(),
        needs_integrality=ray is None,
        irreducible=irreducible,
    )


def _farkas_ray(problem: Matrices, seconds: float) -> np.ndarray | None:
    """[rows] weights under which the rows contradict the bounds; None where fractions could solve
    the problem.
    """
    highs = load(problem, integral=False, seconds=seconds, cost=np.zeros_like(problem.cost))
    highs.setOptionValue("presolve", "off")
    highs.setOptionValue("solver", "simplex")
    if run(highs) != highspy.HighsModelStatus.kInfeasible:
        return None
    _, known, ray = highs.getDualRay()  # pyright: ignore[reportAttributeAccessIssue]
    weights = np.asarray(ray, dtype=np.float64) if known else np.ones(problem.rows.shape[0])
    return weights if weights.any() else np.ones_like(weights)


class _Candidates:
    """Rows and bounds in force; all others of the problem are left out."""

    def __init__(self, problem: Matrices, left: Callable[[], float], *, integral: bool) -> None:
        self._problem = problem
        self._left = left
        cost = np.zeros_like(problem.cost)
        self._highs = load(problem, integral=integral, seconds=left(), cost=cost)
        self.rows: Flags = np.ones(problem.rows.shape[0], dtype=bool)
        self.bounds: Flags = np.ones(len(cost), dtype=bool)

    def keep_only(self, rows: Flags, bounds: Flags) -> None:
        for i in range(len(rows)):
            self._set_row(i, in_force=bool(rows[i]))
        for j in range(len(bounds)):
            self._set_bounds(j, in_force=bool(bounds[j]))

    def are_in_conflict(self) -> bool | None:
        """None where the time didn't suffice to know."""
        # HiGHS counts the time of all runs of one instance.
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + self._left())
        match run(self._highs):
            case highspy.HighsModelStatus.kInfeasible:
                return True
            case highspy.HighsModelStatus.kTimeLimit:
                return None
            case _:
                return False

    def leave_out_what_can_be(self) -> bool:
        """One after the other; False where the time didn't suffice to try each."""
        tried_all = True
        for set_, flags in ((self._set_row, self.rows), (self._set_bounds, self.bounds)):
            for i in np.flatnonzero(flags).tolist():
                set_(i, in_force=False)
                still = self.are_in_conflict()
                tried_all &= still is not None
                if not still:
                    set_(i, in_force=True)
        return tried_all

    def _set_row(self, i: int, *, in_force: bool) -> None:
        least, most = self._problem.least[i], self._problem.most[i]
        self.rows[i] = in_force
        self._highs.changeRowBounds(i, *((least, most) if in_force else (-np.inf, np.inf)))

    def _set_bounds(self, j: int, *, in_force: bool) -> None:
        lower, upper = self._problem.lower[j], self._problem.upper[j]
        self.bounds[j] = in_force
        self._highs.changeColBounds(j, *((lower, upper) if in_force else (-np.inf, np.inf)))
