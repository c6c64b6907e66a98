"""The benchmarks' verdicts, seen from outside: nothing imports ``benchmarks``, tests neither."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

UNKNOWN_PART = """
from benchmarks.telemetry_suite import run
next(run())
"""

PLANTED_SUITE = """
import sys
from pathlib import Path
from rich.console import Console
from benchmarks.harness import Case, LeftOut, run_suite

def suite():
    yield Case(
        case="at its must", value=0.003, unit="gap", better="lower", must=0.003, aim=0.001,
        note="0.004",
    )
    yield Case(case="below its must", value=9.0, unit="tasks/s", better="higher", must=10.0)
    yield Case(case="only reported", value=1.0, unit="s", better="lower", aim=0.5)
    yield LeftOut(case="no data", reason="BENCH_DATA isn't set")

sys.exit(0 if run_suite("planted", suite, Console(width=130), Path(sys.argv[1])) else 1)
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_suite_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = python("-m", "benchmarks", "haste")
    assert done.returncode == 2
    known = "solver, service, telemetry, allocation, scheduling, soak"
    assert f"no such suite: haste (there are: {known})" in done.stderr


def test_a_part_of_telemetry_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = python("-c", UNKNOWN_PART, BENCH_TELEMETRY="ingest,everything")
    assert done.returncode == 1
    assert "no part everything (there are: ingest, retention, reads, agent, fleet)" in done.stderr


def test_ok_follows_from_value_and_must_and_a_case_left_out_has_no_value(tmp_path: Path) -> None:
    done = python("-c", PLANTED_SUITE, str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "left out" in done.stdout
    document = json.loads((tmp_path / "planted.json").read_text())
    assert set(document["machine"]) == {"cpu", "cores", "memory_mib", "python", "date"}
    assert document["cases"][0] == {
        "case": "at its must",
        "value": 0.003,
        "unit": "gap",
        "must": 0.003,
        "aim": 0.001,
        "better": "lower",
        "ok": True,
    }
    assert [case["ok"] for case in document["cases"]] == [True, False, None]
    assert document["left_out"] == [{"case": "no data", "reason": "BENCH_DATA isn't set"}]
    page = (tmp_path / "planted.md").read_text().splitlines()
    assert page[4] == "| at its must | 0.003 gap | ≤ 0.003 | ≤ 0.001 | yes | 0.004 |"
    assert page[5] == "| below its must | 9 tasks/s | ≥ 10 |  | **no** |  |"
    assert page[-1] == "| no data | left out: BENCH_DATA isn't set | | | | |"


TRACE = {
    "openb_node_list_gpu_node": ["sn,cpu_milli,memory_mib,gpu,model"]
    + [f"node-{i},64000,262144,4,{'T4' if i % 2 else 'A10'}" for i in range(16)],
    "openb_pod_list_default": ["name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec"]
    + [
        f"task-{i},{1000 + 500 * (i % 7)},{2048 + 512 * (i % 5)},{2 if i % 9 == 0 else 1},"
        f"{1000 if i % 3 == 0 else 150 + 40 * (i % 11)},{'T4' if i % 8 == 0 else ''}"
        for i in range(120)
    ],
}

GENERATED = """
import sys
from pathlib import Path
from benchmarks import instances as made
from solver.replay import digest

data = Path(sys.argv[1])
whole = made.openb_list(data, "default")
for problem in (
    made.small_problem(3),
    made.large_problem(1, nodes=5, tasks=50),
    made.mixed_problem(1, nodes=20, demand=1.1, priorities=(0, 0, 5)),
    made.huge_problem(1, nodes=20, tasks=80),
    whole,
    made.openb_problem(data, nodes=4, demand=0.5),
    made.jittered(whole, 1),
    made.overloaded(whole, 1, factor=1.4),
    made.excerpt(whole, 1, nodes=12, demand=1.1),
    made.packed_at_random(whole, 1, load=0.6),
):
    print(len(problem.nodes), len(problem.tasks), digest(problem))
"""

DEFRAGMENTED = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.checked import CheckedSolver
from benchmarks.consolidation import consolidate, devices_in_use
from benchmarks.instances import openb_list, packed_at_random
from solver.problem import Budget, Device, Node, Problem, Request, Slot, Task

def share(name, milli, device):
    held = (Slot(node="n", devices=(device,)),)
    return Task(id=name, request=Request(gpus=1, gpu_milli=milli), placed=held)

node = Node(id="n", devices=tuple(Device(id=str(i)) for i in range(4)))
tasks = share("a", 600, "0"), share("b", 300, "1"), share("c", 300, "2"), share("d", 700, "3")
problem = Problem(version=1, nodes=(node,), tasks=tasks)
print(consolidate(problem, 2), consolidate(problem, 1))

problem = packed_at_random(openb_list(Path(sys.argv[1]), "default"), 1, load=0.6)
print(devices_in_use({task.id: task.placed for task in problem.tasks}), consolidate(problem, 20))
solver = CheckedSolver()
asked = replace(problem, budget=Budget(max_moves=0), objective=("placed",))
solver.plan(asked, seconds=0)
print(solver.runs)
solver.plan(asked, seconds=60)
print(solver.overtime().value, solver.overtime().note)
"""

UNTRUE_BOUND = """
from dataclasses import replace
from benchmarks.checked import CheckedSolver, compare_proofs, gap_of
from benchmarks.instances import small_problem

plan = CheckedSolver().plan(small_problem(1), seconds=0)
compare_proofs((plan, plan))
(first, *rest) = plan.objective
low = replace(first, bound=first.value - 1)
compare_proofs((plan, replace(plan, objective=(low, *rest))))
"""

WITHOUT_TRACE = """
from benchmarks.checked import CheckedSolver
from benchmarks.solver_suite import GROUPS, on_trace
found = list(on_trace(CheckedSolver(), None))
assert [case.case for case in found] == list(GROUPS)
assert {type(case).__name__ for case in found} == {"LeftOut"}
"""

IMPOSSIBLE = """
from benchmarks.harness import Case
for value, unit in ((1.5, "gap"), (-1.0, "s"), (float("nan"), "ratio")):
    try:
        Case(case="c", value=value, unit=unit, better="lower")
    except ValueError as error:
        print(error)
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A folder as ``BENCH_DATA`` names it, with a small trace of our own."""
    folder = tmp_path / "openb"
    folder.mkdir()
    for name, lines in TRACE.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_generators_make_valid_problems_and_the_same_ones_under_any_hash_seed(trace: Path) -> None:
    outputs = set()
    for seed in ("0", "1"):
        done = python("-c", GENERATED, str(trace), PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        outputs.add(done.stdout)
    (output,) = outputs
    sizes = [tuple(map(int, line.split()[:2])) for line in output.splitlines()]
    assert sizes[1:7] == [
        (5, 50),
        (20, sizes[2][1]),
        (20, 80),
        (16, 120),
        (4, sizes[5][1]),
        (16, 120),
    ]
    assert sizes[7] == (16, 168)
    assert sizes[8][0] == 12
    assert all(tasks > 0 for _, tasks in sizes)


def test_the_greedy_baseline_frees_devices_by_the_fewest_moves_and_runs_are_timed(
    trace: Path,
) -> None:
    done = python("-c", DEFRAGMENTED, str(trace))
    assert done.returncode == 0, done.stderr
    made, packed, runs, overtime = done.stdout.splitlines()
    # b goes to d and c to a, or the other way round: two devices by two moves.
    assert made == "Consolidation(freed=2, moves=2) Consolidation(freed=1, moves=1)"
    assert re.fullmatch(r"\d+ Consolidation\(freed=[1-9]\d*, moves=[1-9]\d*\)", packed)
    assert runs == "[]"  # a budget of 0 can't be kept
    assert re.fullmatch(r"0\.0 1 runs; \d+ tasks, 16 nodes, 60 s", overtime)


def test_a_bound_below_what_another_run_found_ends_the_suite() -> None:
    done = python("-c", UNTRUE_BOUND)
    assert done.returncode == 1
    assert re.search(r"RuntimeError: placed \d+ was found, and at most \d+ proven", done.stderr)


def test_without_the_trace_its_cases_are_left_out_by_name() -> None:
    done = python("-c", WITHOUT_TRACE)
    assert done.returncode == 0, done.stderr


def test_a_value_that_cannot_be_is_no_result() -> None:
    done = python("-c", IMPOSSIBLE)
    assert done.stdout.splitlines() == [
        "c: 1.5 gap can't be",
        "c: -1.0 s can't be",
        "c: nan ratio can't be",
    ]
