"""The solver's cases that need no trace: small problems, clusters of many kinds, the largest."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from app.planning.documents import parse_plan
from benchmarks.checked import CheckedSolver, Run, gap_of
from benchmarks.harness import Case
from benchmarks.instances import huge_problem, jittered, large_problem, mixed_problem, small_problem
from solver.check import violations
from solver.plan import Plan, Status
from solver.problem import Problem
from solver.replay import canonical_bytes
from telemetry.stats import quantile

SMALL = 100
SMALL_SECONDS = 5.0
LARGE_NODES, LARGE_TASKS = 200, 2000
MIXED_NODES, MIXED_SECONDS = 500, 5.0
MIXED_SEEDS = (1, 2, 3)
MIXED_DEMAND = 1.1
MIXED_PRIORITIES = (0, 0, 5)
HUGE_NODES, HUGE_TASKS = 5000, 20_000
HUGE_SEED, HUGE_SECONDS = 3, (5.0, 10.0)
START_NODES, START_TASKS = 420, 4200
"""About 2 MB of JSON with every field written out."""
START_RUNS = 5


def run(solver: CheckedSolver) -> Iterator[Case]:
    """The many small ones last: they take longest."""
    what = f"{LARGE_TASKS} tasks on {LARGE_NODES} nodes of 8 devices"
    problem = large_problem(1, nodes=LARGE_NODES, tasks=LARGE_TASKS)
    yield from quick(solver, what, problem, aim=0.96, note="Rebalancer 1.0.4 (HiGHS): 0.96 s")
    yield from start_to_answer("generated", large_problem(1, nodes=START_NODES, tasks=START_TASKS))
    yield from _mixed(solver)
    yield from _huge(solver)
    yield from _small(solver)


def quick(
    solver: CheckedSolver, what: str, problem: Problem, *, aim: float | None = None, note: str = ""
) -> Iterator[Case]:
    """``solve`` without time to search, as a whole, and its gap in ``placed`` to the bound that
    needs no search.
    """
    plan = solver.plan(problem, seconds=0)
    name = f"quick answer, {what}"
    yield Case(case=name, value=plan.stats.seconds, unit="s", better="lower", aim=aim, note=note)
    yield Case(case=f"{name}: gap", value=gap_of(plan.objective), unit="gap", better="lower")


def start_to_answer(what: str, problem: Problem) -> Iterator[Case]:
    """Seconds of a ``stowplan solve --seconds 0`` process, after one that has warmed the caches."""
    with tempfile.TemporaryDirectory(prefix="stowplan-bench-") as folder:
        asked, answer = Path(folder) / "problem.json", Path(folder) / "plan.json"
        data = canonical_bytes(problem)
        asked.write_bytes(data)
        command = [sys.executable, "-m", "client.cli", "solve", str(asked)]
        seconds = []
        for _ in range(1 + START_RUNS):
            start = time.perf_counter()
            subprocess.run([*command, "--seconds", "0", "--out", str(answer)], check=True)
            seconds.append(time.perf_counter() - start)
        found = violations(problem, parse_plan(answer.read_bytes()))
    if found:
        raise RuntimeError(f"the plan breaks a rule: {found[0].text}")
    yield Case(
        case=f"`stowplan solve --seconds 0`, start to answer, {what}, {len(data) / 1e6:.1f} MB: "
        f"median of {START_RUNS}",
        value=quantile(seconds[1:], 0.5),
        unit="s",
        better="lower",
        must=2.5,
        aim=1.5,
    )


def proven_ratio(plans: list[Plan]) -> float:
    """How many are optimal in every entry of their objective."""
    return sum(plan.status is Status.OPTIMAL for plan in plans) / len(plans)


def _small(solver: CheckedSolver) -> Iterator[Case]:
    """Wall time of ``solve`` as it is, import of the back ends excluded."""
    plans = [solver.plan(small_problem(seed), seconds=SMALL_SECONDS) for seed in range(SMALL)]
    seconds = [plan.stats.seconds for plan in plans]
    what = f"{SMALL} problems of at most 8 nodes and 40 tasks, {SMALL_SECONDS:.0f} s each"
    yield Case(
        case=f"{what}: proven optimal in every term",
        value=proven_ratio(plans),
        unit="ratio",
        better="higher",
        must=1.0,
        aim=1.0,
    )
    yield Case(case=f"{what}: p50", value=quantile(seconds, 0.5), unit="s", better="lower")
    yield Case(case=f"{what}: p99", value=quantile(seconds, 0.99), unit="s", better="lower")


def _mixed(solver: CheckedSolver) -> Iterator[Case]:
    what = f"gangs, racks, separation, selectors on {MIXED_NODES} nodes, {MIXED_SECONDS:.0f} s"
    for seed in MIXED_SEEDS:
        problem = mixed_problem(seed, nodes=MIXED_NODES, demand=MIXED_DEMAND, priorities=(0,))
        plan = solver.plan(problem, seconds=MIXED_SECONDS)
        yield _mixed_case(f"{what}, seed {seed}", plan)
    for seed in MIXED_SEEDS[:2]:
        problem = mixed_problem(
            seed, nodes=MIXED_NODES, demand=MIXED_DEMAND, priorities=MIXED_PRIORITIES
        )
        plan = solver.plan(problem, seconds=MIXED_SECONDS)
        yield _mixed_case(f"{what}, two priorities, seed {seed}", plan)


def _mixed_case(what: str, plan: Plan) -> Case:
    return Case(
        case=f"{what}: gap",
        value=gap_of(plan.objective),
        unit="gap",
        better="lower",
        must=0.03,
        aim=0.01,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    gap: float
    run: Run
    peak_mib: float


def _huge(solver: CheckedSolver) -> Iterator[Case]:
    """In processes of their own, so that nobody else's memory is counted."""
    what = f"{HUGE_TASKS:,} tasks on {HUGE_NODES:,} nodes of 8"
    note = "Rebalancer 1.0.4, 20,000 x 2,000: 17,161 tasks unplaced after 90 s"
    with ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        soon = pool.submit(_solve_huge, HUGE_SECONDS[0]).result()
        late = pool.submit(_solve_huge, HUGE_SECONDS[1]).result()
        unique = pool.submit(_solve_huge, HUGE_SECONDS[1], is_unique=True).result()
    solver.runs += [fresh.run for fresh in (soon, late, unique)]
    gap = partial(Case, unit="gap", better="lower")
    in_soon, in_late = (f"{seconds:.0f} s" for seconds in HUGE_SECONDS)
    yield gap(case=f"{what}, {in_soon}: gap", value=soon.gap, aim=0.01)
    yield gap(case=f"{what}, {in_late}: gap", value=late.gap, must=0.01, note=note)
    yield Case(
        case=f"{what}, {in_late}: peak memory of a fresh process",
        value=late.peak_mib,
        unit="MiB",
        better="lower",
        must=4096,
    )
    yield gap(case=f"{what}, nearly unique demands, {in_late}: gap", value=unique.gap)


def _solve_huge(seconds: float, *, is_unique: bool = False) -> _Fresh:
    solver = CheckedSolver()
    solver.load()
    problem = huge_problem(HUGE_SEED, nodes=HUGE_NODES, tasks=HUGE_TASKS)
    if is_unique:
        problem = jittered(problem, HUGE_SEED)
    plan = solver.plan(problem, seconds=seconds)
    return _Fresh(
        gap=gap_of(plan.objective),
        run=solver.runs[-1],
        peak_mib=_peak_mib(),
    )


def _peak_mib() -> float:
    """The process's own peak; ``ru_maxrss`` would begin with that of its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel tells no peak memory")
