"""A program as arrays, and HiGHS with it loaded."""

from dataclasses import dataclass
from typing import Self

import highspy
import numpy as np
from scipy import sparse

from solver.allocation.fleet import Flags, Floats
from solver.allocation.program import Program, Row, Triplets


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """A program as arrays: rows between ``least`` and ``most``, the inequalities first."""

    cost: Floats
    rows: sparse.csc_array
    least: Floats
    most: Floats
    lower: Floats
    upper: Floats
    integral: Flags
    """[n]"""
    inequalities: int

    @classmethod
    def of(cls, program: Program) -> Self:
        width = len(program.c)
        above = _sparse(program.A, len(program.b), width)
        equal = _sparse(program.A_eq, len(program.b_eq), width)
        bounds = program.bounds or ((0.0, None),) * width
        sides = np.array([*program.b, *program.b_eq], dtype=np.float64)
        least = sides.copy()
        least[: len(program.b)] = -np.inf
        return cls(
            cost=np.array(program.c, dtype=np.float64),
            rows=sparse.csc_array(sparse.vstack([above, equal], format="csc")),
            least=least,
            most=sides,
            lower=np.array([-np.inf if low is None else low for low, _ in bounds]),
            upper=np.array([np.inf if high is None else high for _, high in bounds]),
            integral=np.array(program.integrality or (False,) * width, dtype=bool),
            inequalities=len(program.b),
        )

    def paths(self, rows: list[int], bounds: list[int]) -> tuple[str, ...]:
        """What rows and bounds are called in the document."""
        split = self.inequalities
        named = (f"A[{i}]" if i < split else f"A_eq[{i - split}]" for i in rows)
        return (*named, *(f"bounds[{j}]" for j in bounds))


def load(
    problem: Matrices, *, integral: bool, seconds: float, cost: Floats | None = None
) -> highspy.Highs:
    """HiGHS with the problem in it; with another objective if ``cost`` is given."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("random_seed", 0)
    highs.setOptionValue("time_limit", seconds)
    highs.setOptionValue("mip_rel_gap", 0.0)
    matrix = problem.rows
    height, width = matrix.shape
    highs.passModel(
        width,
        height,
        matrix.nnz,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        problem.cost if cost is None else cost,
        problem.lower,
        problem.upper,
        problem.least,
        problem.most,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float64),
        (problem.integral if integral else np.zeros(width)).astype(np.int32),
    )
    return highs


def run(highs: highspy.Highs) -> highspy.HighsModelStatus:
    """Solves, and says how that ended."""
    highs.run()
    return highs.getModelStatus()


def _sparse(matrix: tuple[Row, ...] | Triplets, height: int, width: int) -> sparse.csc_array:
    if isinstance(matrix, Triplets):
        places = (np.array(matrix.rows, dtype=np.int64), np.array(matrix.columns, dtype=np.int64))
        values = np.array(matrix.values, dtype=np.float64)
        return sparse.csc_array(sparse.coo_array((values, places), shape=(height, width)))
    dense = np.array(matrix, dtype=np.float64).reshape(height, width)
    return sparse.csc_array(dense)
