"""The solver as a library: the names it offers, what they load, and the examples they show."""

import doctest
import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages

import pytest

import solver

BACK_ENDS = ("ortools", "highspy", "numba", "scipy")
MODULES = tuple(
    module.name
    for module in walk_packages(solver.__path__, "solver.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = (
    "solver",
    "solver.check",
    "solver.instant.planner",
    "solver.picture.drawing",
    "solver.pipeline",
    "solver.replay",
    "solver.score",
)


def loaded_by(statements: str, *packages: str) -> list[str]:
    """Which of the packages a new interpreter has loaded after the statements."""
    question = f"import sys\n{statements}\nprint(*(p for p in {packages!r} if p in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


def test_importing_the_package_loads_nothing_of_its_own() -> None:
    assert loaded_by("import solver", *BACK_ENDS, "numpy", *MODULES) == []


@pytest.mark.parametrize("module", ["problem", "plan", "check", "replay"])
def test_forms_and_specification_load_no_back_end(module: str) -> None:
    assert loaded_by(f"import solver.{module}", *BACK_ENDS, "numpy") == []


def test_a_quick_answer_loads_no_exact_search_and_no_linear_program() -> None:
    small, large = (
        f"solve(Problem(version=1, nodes=(Node(id='n', cpu_milli=1),), tasks=(Task(id='t', "
        f"replicas={replicas}, min_replicas=1, request=Request(cpu_milli=1)),), "
        f"budget=Budget(seconds=0)))"
        for replicas in (2, 100_000)
    )
    begin = "from solver import Budget, Node, Problem, Request, Task, solve\n"
    assert loaded_by(begin + small, *BACK_ENDS) == []
    assert loaded_by(begin + large, "ortools", "highspy", "solver.compiled.refill") == []


def test_every_public_name_is_there_and_its_own() -> None:
    for name in solver.__all__:
        value = getattr(solver, name)
        assert value is getattr(import_module(_home(name)), name, value)
    assert set(solver.__all__) <= set(dir(solver))
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        _ = solver.slove


def _home(name: str) -> str:
    return solver._MODULE_OF.get(name, f"solver.{name}")


def test_no_public_name_is_taken_by_a_module_of_that_name() -> None:
    """Importing ``solver.x`` sets ``solver.x`` to the module, whatever it was before."""
    assert {name for name in solver.__all__ if f"solver.{name}" in MODULES} == {"check"}
    for module in MODULES:
        import_module(module)
    from solver import solve  # noqa: PLC0415

    assert callable(solve)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_are_true(module: str) -> None:
    failed, attempted = doctest.testmod(import_module(module))
    assert (failed, attempted > 0) == (0, True)
