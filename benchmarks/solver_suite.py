"""The solver: what it proves on small problems, and how fast and how good the quick answer is."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Case, LeftOut
from benchmarks.instances import large_problem, openb_problem, small_problem
from solver.check import violations
from solver.pipeline import solve
from solver.plan import Plan, Status
from solver.problem import Problem
from telemetry.stats import quantile

SMALL = 100
LARGE_NODES, LARGE_TASKS = 200, 2000
OPENB_NODES, OPENB_DEMAND = 200, 1.1
DATA_VARIABLE = "BENCH_DATA"


def run() -> Iterator[Case | LeftOut]:
    """Every plan is checked by ``solver.check`` before its numbers count."""
    yield from _small()
    what = f"{LARGE_TASKS} tasks on {LARGE_NODES} nodes of 8 devices"
    # Rebalancer 1.0.4 takes 0.96 s for a placement of this size, on the machine class of the aims.
    yield from _quick(what, large_problem(1, nodes=LARGE_NODES, tasks=LARGE_TASKS), aim=0.96)
    what = f"openb default list at {OPENB_DEMAND:.0%} on the first {OPENB_NODES} nodes"
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        yield LeftOut(case=f"quick answer, {what}", reason=f"{DATA_VARIABLE} isn't set")
        return
    yield from _quick(what, openb_problem(Path(data), nodes=OPENB_NODES, demand=OPENB_DEMAND))


def _small() -> Iterator[Case]:
    """Wall time of ``solve`` as it is, import of the exact back end excluded, 2 workers."""
    problems = [small_problem(seed) for seed in range(SMALL)]
    _solved(problems[0])  # loads the exact back end
    plans = [_solved(problem) for problem in problems]
    seconds = [plan.stats.seconds for plan in plans]
    proven = sum(plan.status is Status.OPTIMAL for plan in plans)
    what = f"{SMALL} problems of at most 8 nodes and 40 tasks, 5 s each"
    yield Case(
        case=f"{what}: proven optimal in every term",
        value=proven / SMALL,
        unit="ratio",
        better="higher",
        must=1.0,
        aim=1.0,
    )
    yield Case(case=f"{what}: p50", value=quantile(seconds, 0.5), unit="s", better="lower")
    yield Case(case=f"{what}: p99", value=quantile(seconds, 0.99), unit="s", better="lower")


def _quick(what: str, problem: Problem, aim: float | None = None) -> Iterator[Case]:
    """The quick answer with its check, and its gap in ``placed`` to the bound that needs no
    search.
    """
    plan = _solved(problem)
    seconds = plan.stats.quick_seconds
    yield Case(case=f"quick answer, {what}", value=seconds, unit="s", better="lower", aim=aim)
    (placed,) = plan.objective
    yield Case(case=f"quick answer, {what}: gap", value=placed.gap, unit="gap", better="lower")


def _solved(problem: Problem) -> Plan:
    plan = solve(problem, clock=time.perf_counter)
    wrong = violations(problem, plan)
    if wrong:
        raise RuntimeError(f"the plan of {plan.stats.digest} breaks a rule: {wrong[0].text}")
    return plan
