"""The solver: what it proves, how near it comes to its bounds and in what time.

Every plan is checked by ``solver.check`` before its numbers count.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import generated_cases, online, trace_cases
from benchmarks.checked import CheckedSolver
from benchmarks.harness import Case, LeftOut

DATA_VARIABLE = "BENCH_DATA"
GROUPS: Mapping[str, Callable[[CheckedSolver, Path], Iterator[Case]]] = {
    **trace_cases.GROUPS,
    "openb: one at a time": lambda _, data: online.cases(data),
}


def run() -> Iterator[Case | LeftOut]:
    """What is generated, then what needs the trace, then whether the deadlines were kept."""
    solver = CheckedSolver()
    solver.load()
    yield from generated_cases.run(solver)
    yield from on_trace(solver, os.environ.get(DATA_VARIABLE))
    yield solver.overtime()


def on_trace(solver: CheckedSolver, data: str | None) -> Iterator[Case | LeftOut]:
    """The groups of cases that need the trace; left out by their names where there is none."""
    for name, group in GROUPS.items():
        if data:
            yield from group(solver, Path(data))
        else:
            yield LeftOut(case=name, reason=f"{DATA_VARIABLE} isn't set")
