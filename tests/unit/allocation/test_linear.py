"""Programs of one's own: optima, duals, conflicts, rays."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from app.planning.documents import parse
from solver.allocation.linear import solve
from solver.allocation.program import Program, Triplets
from solver.errors import InvalidProblem


def test_the_worked_example_of_the_literature_has_the_optimum_minus_1_not_minus_3() -> None:
    # Printed with -3 at (0, 1, 1), which breaks its second row: 1 + 2 > 1.
    rows = ((2.0, 1.0, 3.0), (1.0, 1.0, 2.0), (0.0, 1.0, 2.0))
    found = solve(Program(c=(-1.0, -1.0, -1.0), A=rows, b=(2.0, 1.0, 4.0)))
    assert found.status == "optimal"
    assert found.objective == pytest.approx(-1.0)
    assert found.x is not None
    assert (np.array(rows) @ found.x <= np.array([2.0, 1.0, 4.0]) + 1e-9).all()


def test_dense_and_sparse_are_the_same_program() -> None:
    dense = Program(c=(-3.0, -2.0), A=((1.0, 1.0), (1.0, 0.0)), b=(4.0, 2.0))
    entries = Triplets(rows=(0, 0, 1), columns=(0, 1, 0), values=(1.0, 1.0, 1.0))
    sparse = Program(c=(-3.0, -2.0), A=entries, b=(4.0, 2.0))
    assert solve(dense) == solve(sparse)
    assert solve(dense).objective == pytest.approx(-10.0)


def test_a_dual_is_what_one_unit_more_changes() -> None:
    found = solve(Program(c=(-3.0, -2.0), A=((1.0, 1.0), (1.0, 0.0)), b=(4.0, 2.0)))
    assert found.duals is not None
    assert found.duals.b == pytest.approx((-2.0, -1.0))
    found = solve(
        Program(c=(1.0, 2.0), A_eq=((1.0, 1.0),), b_eq=(3.0,), bounds=((0, 1), (0, None)))
    )
    assert found.duals is not None
    assert found.duals.b_eq == pytest.approx((2.0,))
    assert found.duals.bounds == pytest.approx((-1.0, 0.0))


def test_integers_are_integers() -> None:
    found = solve(Program(c=(-1.0, -1.0), A=((2.0, 2.0),), b=(3.0,), integrality=(True, True)))
    assert (found.objective, found.bound) == (-1.0, -1.0)
    assert found.duals is None


def test_a_conflict_names_the_rows_that_need_each_other_and_no_others() -> None:
    found = solve(
        Program(
            c=(1.0, 1.0),
            A=((1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (-1.0, -1.0)),
            b=(9.0, 1.0, 9.0, -3.0),
        )
    )
    assert (found.status, found.conflict, found.irreducible) == (
        "infeasible",
        ("A[1]", "A[3]"),
        True,
    )
    bounded = solve(Program(c=(1.0,), A=((-1.0,),), b=(-3.0,), bounds=((0.0, 2.0),)))
    assert bounded.conflict == ("A[0]", "bounds[0]")
    whole = solve(Program(c=(1.0,), A_eq=((2.0,),), b_eq=(1.0,), integrality=(True,)))
    assert whole.conflict == ("A_eq[0]", "integrality")


@pytest.mark.parametrize("integrality", [None, (True, True)])
def test_a_program_without_a_least_value_names_who_can_grow(
    integrality: tuple[bool, ...] | None,
) -> None:
    with pytest.raises(InvalidProblem) as refused:
        solve(Program(c=(-1.0, 1.0), A=((0.0, 1.0),), b=(1.0,), integrality=integrality))
    assert [fault.path for fault in refused.value.faults] == ["c[0]"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"c": ()}, "c"),
        ({"c": (float("nan"),)}, "c[0]"),
        ({"c": (float("inf"),)}, "c[0]"),
        ({"A": ((1.0, 2.0),), "b": (1.0,)}, "A[0]"),
        ({"A": ((1.0,),)}, "A"),
        ({"b": (1.0,)}, "A"),
        ({"A": Triplets(rows=(1,), columns=(0,), values=(1.0,)), "b": (1.0,)}, "A.rows[0]"),
        ({"A": Triplets(rows=(0,), columns=(-1,), values=(1.0,)), "b": (1.0,)}, "A.columns[0]"),
        ({"A": Triplets(rows=(0, 0), columns=(0,), values=(1.0,)), "b": (1.0,)}, "A.rows"),
        ({"bounds": ((3.0, 2.0),)}, "bounds[0]"),
        ({"bounds": ((0.0, None), (0.0, None))}, "bounds"),
        ({"integrality": (True, False)}, "integrality"),
    ],
)
def test_a_programs_fault_is_told_where_it_is(change: dict, path: str) -> None:
    with pytest.raises(InvalidProblem) as refused:
        Program(**{"c": (1.0,), **change})
    assert path in {fault.path for fault in refused.value.faults}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_end_as_scipys_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    matrix = rng.integers(-3, 4, (height, width)).astype(float)
    side = rng.integers(-4, 6, height).astype(float)
    cost = rng.integers(-3, 4, width).astype(float)
    asked = Program(
        c=tuple(cost.tolist()), A=tuple(map(tuple, matrix.tolist())), b=tuple(side.tolist())
    )
    expected = linprog(cost, A_ub=matrix, b_ub=side, method="highs")
    feasible = linprog(np.zeros(width), A_ub=matrix, b_ub=side, method="highs").status == 0
    if not feasible:
        found = solve(asked)
        assert found.status == "infeasible"
        assert found.irreducible
        _assert_irreducible(matrix, side, found.conflict or ())
    elif expected.status == 0:
        assert solve(asked).objective == pytest.approx(expected.fun, abs=1e-7)
    else:
        with pytest.raises(InvalidProblem):
            solve(asked)


def _assert_irreducible(matrix: np.ndarray, side: np.ndarray, conflict: tuple[str, ...]) -> None:
    """Together they can't hold; without any one of them they can."""
    for left_out in (None, *conflict):
        kept = [name for name in conflict if name != left_out]
        rows = [int(name[2:-1]) for name in kept if name.startswith("A[")]
        held = {int(name[7:-1]) for name in kept if name.startswith("bounds[")}
        bounds = [(0.0 if j in held else None, None) for j in range(matrix.shape[1])]
        answer = linprog(
            np.zeros(matrix.shape[1]), A_ub=matrix[rows], b_ub=side[rows], bounds=bounds,
            method="highs",
        )  # fmt: skip
        assert (answer.status == 2) == (left_out is None)


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        ([[1, "y"], 3], {"A[0][1]", "A[1]"}),
        ({"rows": [0], "columns": ["a"], "values": [1], "z": 1}, {"A.columns[0]", "A.z"}),
        (7, {"A"}),
    ],
)
def test_a_matrix_of_the_wrong_shape_is_told_by_the_documents_own_paths(
    matrix: object, told: set[str]
) -> None:
    document = {"c": [1, 1], "A": matrix, "b": [1, 1]}
    with pytest.raises(InvalidProblem) as refused:
        parse("program", json.dumps(document).encode())
    assert {fault.path for fault in refused.value.faults} == told
