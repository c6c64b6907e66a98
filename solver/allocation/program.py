"""A linear program of one's own: minimise c.x under rows, bounds and, if wanted, integrality.

The classes are the JSON form. Constructing a :class:`Program` raises
:class:`~solver.errors.InvalidProblem` with every fault. :mod:`solver.allocation.linear` solves it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Annotated, Literal

from annotated_types import Len

from solver.errors import Fault, InvalidProblem
from solver.reading import fault_at, items, read

SIZE_MAX = 2_000_000
"""Of variables, and of rows."""
LARGEST = 1e15
"""Of a coefficient; the back end takes larger ones for infinite."""
MOST_SECONDS = 1e6

_STRICT = {"extra": "forbid", "strict": True}

Row = tuple[float, ...]
Pair = Annotated[tuple[float | None, ...], Len(2, 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Triplets:
    """A sparse matrix: one entry for each place that isn't 0. Entries of one place are summed."""

    __pydantic_config__ = _STRICT

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """How long the search may take."""

    __pydantic_config__ = _STRICT

    seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """min c.x with A x <= b, A_eq x = b_eq and bounds; n variables."""

    __pydantic_config__ = _STRICT

    c: Row
    """[n]"""
    A: tuple[Row, ...] | Triplets = ()
    """[rows, n], dense or as triplets."""
    b: Row = ()
    """[rows]"""
    A_eq: tuple[Row, ...] | Triplets = ()
    b_eq: Row = ()
    bounds: tuple[Pair, ...] | None = None
    """[n] pairs of the least and the most, null for none; without the field all x >= 0."""
    integrality: tuple[bool, ...] | None = None
    """[n] which variables have to be integers; without the field none."""
    version: Literal[1] = 1
    budget: TimeBudget = field(default_factory=TimeBudget)

    def __post_init__(self) -> None:
        faults = semantic_faults(self)
        if faults:
            raise InvalidProblem(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Duals:
    """What the objective would change by, for one unit more on a right-hand side (A11).

    Minimising, a row's is at most 0: room never makes it worse.
    """

    __pydantic_config__ = _STRICT

    b: tuple[float, ...]
    b_eq: tuple[float, ...]
    bounds: tuple[float, ...]
    """[n] for one unit more on the bound that holds the variable; 0 where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The answer to a :class:`Program`."""

    __pydantic_config__ = _STRICT

    status: Literal["optimal", "feasible", "infeasible", "timeout"]
    """``feasible``: the time ran out with an answer in hand; ``timeout``: without one."""
    x: tuple[float, ...] | None = None
    objective: float | None = None
    bound: float | None = None
    """Proven: no x has a smaller objective. Only with integrality."""
    duals: Duals | None = None
    """Of an optimum without integrality."""
    conflict: tuple[str, ...] | None = None
    """What can't hold together, as paths such as ``A[3]``, ``A_eq[0]``, ``bounds[2]`` or
    ``integrality``."""
    irreducible: bool | None = None
    """True: leave out any one of ``conflict`` and the rest holds together."""
    seconds: float = 0.0


def semantic_faults(document: object) -> tuple[Fault, ...]:
    """Everything that the document, or the raw JSON of one, can be wrong about in itself."""
    width = len(items(document, "c"))
    return (
        *_size_faults(width),
        *_number_faults("c", items(document, "c")),
        *_matrix_faults(document, "A", "b", width),
        *_matrix_faults(document, "A_eq", "b_eq", width),
        *_bound_faults(document, width),
        *_length_faults(document, "integrality", width),
        *_budget_faults(document),
    )


def _size_faults(width: int) -> Iterator[Fault]:
    if width == 0 or width > SIZE_MAX:
        yield fault_at("c", (), f"has to name from 1 to {SIZE_MAX} variables, not {width}")


def _matrix_faults(document: object, matrix: str, side: str, width: int) -> Iterator[Fault]:
    height = len(items(document, side))
    yield from _number_faults(side, items(document, side))
    given = read(document, matrix)
    if given is None or isinstance(given, list | tuple):
        rows = items(document, matrix)
        if len(rows) != height:
            yield fault_at(matrix, rows, f"has to have a row for each of {side}, {height}")
        for i, row in enumerate(rows):
            path = f"{matrix}[{i}]"
            if not isinstance(row, list | tuple):
                continue
            if len(row) != width:
                yield fault_at(path, row, f"has to have an entry for each variable, {width}")
            yield from _number_faults(path, tuple(row))
    else:
        yield from _triplet_faults(given, matrix, height, width)


def _triplet_faults(given: object, path: str, height: int, width: int) -> Iterator[Fault]:
    count = len(items(given, "values"))
    for name, limit in (("rows", height), ("columns", width)):
        places = items(given, name)
        if len(places) != count:
            yield fault_at(f"{path}.{name}", places, f"has to be as long as values, {count}")
        for i, place in enumerate(places):
            if isinstance(place, int) and not 0 <= place < limit:
                yield fault_at(f"{path}.{name}[{i}]", place, f"has to be from 0 to {limit - 1}")
    yield from _number_faults(f"{path}.values", items(given, "values"))


def _bound_faults(document: object, width: int) -> Iterator[Fault]:
    yield from _length_faults(document, "bounds", width)
    for i, pair in enumerate(items(document, "bounds")):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            continue
        yield from _number_faults(f"bounds[{i}]", tuple(pair))
        least, most = pair
        if _is_number(least) and _is_number(most) and least > most:
            yield fault_at(f"bounds[{i}]", pair, f"has a least, {least}, above its most, {most}")


def _length_faults(document: object, name: str, width: int) -> Iterator[Fault]:
    if read(document, name) is not None and len(items(document, name)) != width:
        given = items(document, name)
        yield fault_at(name, given, f"has to have an entry for each variable, {width}")


def _number_faults(path: str, numbers: tuple[object, ...]) -> Iterator[Fault]:
    for i, number in enumerate(numbers):
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue  # a fault of shape, which the border tells, or null
        if not _is_number(number) or abs(number) > LARGEST:
            reason = f"has to be a number of at most {LARGEST:g} in size"
            yield fault_at(f"{path}[{i}]", number, reason)


def _budget_faults(document: object) -> Iterator[Fault]:
    seconds = read(read(document, "budget"), "seconds")
    if isinstance(seconds, int | float) and not 0 < seconds <= MOST_SECONDS:
        yield fault_at("budget.seconds", seconds, f"has to be above 0, at most {MOST_SECONDS:g}")


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))
