"""Blends of whole answers: a small linear program that HiGHS keeps warm.

Each column is one way in which all jobs together could be served; a blend of such ways serves them
just as well, as every rule of a single job is convex. Only the accelerators' counts are left to
be kept, so the program has a row a type (Dantzig and Wolfe, Operations Research 8, 1960).
"""

from dataclasses import dataclass

import highspy
import numpy as np

from solver.allocation.fleet import Floats

_TOLERANCE = 1e-10
"""HiGHS's smallest. Everything here is of the order of 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The best blend of the ways known so far."""

    weight: Floats
    """[ways], sum 1."""
    value: float
    price: Floats
    """[k] of all accelerators of a type."""


class Mixer:
    """Solves one such program after the other."""

    def __init__(self) -> None:
        self._highs = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("parallel", "off"),
            ("solver", "simplex"),
            ("presolve", "off"),
            ("random_seed", 0),
            ("primal_feasibility_tolerance", _TOLERANCE),
            ("dual_feasibility_tolerance", _TOLERANCE),
        ):
            self._highs.setOptionValue(name, value)

    def least_scale(self, usage: Floats) -> Blend:
        """The blend for which the smallest multiple of all counts is enough, and that multiple.

        ``usage`` [ways, k] is the part of each type that a way takes. Prices sum to 1.
        """
        ways, types = usage.shape
        price, weight, value = self._run(
            matrix=np.vstack([np.hstack([usage, np.ones((ways, 1))]), [*[-1.0] * types, 0.0]]),
            cost=np.array([*[0.0] * ways, 1.0]),
            most=np.zeros(types),
        )
        return Blend(weight=weight[:-1], value=value, price=price / max(price.sum(), _TOLERANCE))

    def most_worth(self, usage: Floats, worth: Floats) -> Blend:
        """The blend of the highest worth within the counts. ``usage`` [ways, k], ``worth``
        [ways]; some blend has to be within them.
        """
        ways, types = usage.shape
        unit = max(float(np.abs(worth).max()), 1e-300)
        price, weight, value = self._run(
            matrix=np.hstack([usage, np.ones((ways, 1))]), cost=-worth / unit, most=np.ones(types)
        )
        return Blend(weight=weight, value=-value * unit, price=price * unit)

    def _run(self, *, matrix: Floats, cost: Floats, most: Floats) -> tuple[Floats, Floats, float]:
        """Minimises; ``matrix`` [columns, k + 1] by columns, the last row has to sum to 1."""
        columns, rows = matrix.shape
        column, row = np.nonzero(matrix)
        self._highs.passModel(
            columns,
            rows,
            len(row),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            cost,
            np.zeros(columns),
            np.full(columns, np.inf),
            np.array([*[-np.inf] * len(most), 1.0]),
            np.array([*most, 1.0]),
            np.searchsorted(column, np.arange(columns + 1)).astype(np.int32),
            row.astype(np.int32),
            matrix[column, row],
            np.zeros(columns, dtype=np.int32),
        )
        self._highs.run()
        found = self._highs.getSolution()
        price = np.maximum(-np.asarray(found.row_dual)[:-1], 0.0)
        weight = np.maximum(np.asarray(found.col_value), 0.0)
        return price, weight, float(cost @ weight)
