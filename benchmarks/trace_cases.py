"""The solver's cases on the openb trace, all tasks at once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.checked import CheckedSolver, compare_proofs, gap_of
from benchmarks.consolidation import Consolidation, consolidate, devices_in_use
from benchmarks.generated_cases import proven_ratio, quick, start_to_answer
from benchmarks.harness import Case
from benchmarks.instances import (
    LISTS,
    excerpt,
    jittered,
    openb_list,
    openb_problem,
    overloaded,
    packed_at_random,
)
from solver.objective import DEFAULT_OBJECTIVE
from solver.plan import Plan
from solver.problem import Problem
from telemetry.stats import quantile

QUICK_NODES, QUICK_DEMAND = 200, 1.1
START_NODES = 600
"""About 2 MB of JSON with every field written out."""
AT_ONCE_SECONDS = (2.0, 3.0)
PROTOTYPE_GAPS = {
    "default": "0.03 %",
    "gpushare40": "0.00 %",
    "gpuspec33": "0.07 %",
    "multigpu50": "0.07 %",
}
"""At 1 s on one core, the prototype that the design began with (November 2026)."""
OVERLOAD, OVERLOAD_SECONDS = 1.4, 5.0
EXCERPT_NODES, EXCERPT_SECONDS = 12, 3.0
EXCERPT_DEMANDS = (0.9, 1.1, 1.3, 1.1)
"""By seed."""
DEFRAGMENT_LOADS = (0.6, 0.8)
DEFRAGMENT_MOVES, MANY_MOVES, DEFRAGMENT_SECONDS = 200, 1000, 3.0


def quick_answer(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """Part of the default list in no time, and a whole process on 2 MB of it."""
    what = f"openb default list at {QUICK_DEMAND:.0%} on the first {QUICK_NODES} nodes"
    problem = openb_problem(data, nodes=QUICK_NODES, demand=QUICK_DEMAND)
    yield from quick(solver, what, problem)
    problem = openb_problem(data, nodes=START_NODES, demand=1.0)
    yield from start_to_answer(f"openb default list on {START_NODES} nodes", problem)


def lists_at_once(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """Each list as it is: in the seconds of the aim, then in those of the must."""
    for name in LISTS:
        problem = openb_list(data, name)
        soon, late = (solver.plan(problem, seconds=seconds) for seconds in AT_ONCE_SECONDS)
        compare_proofs((soon, late))
        note = f"prototype, 1 s: {PROTOTYPE_GAPS[name]}"
        yield _gap(f"openb {name} at once, 2 s: gap", soon, aim=0.001, note=note)
        yield _gap(f"openb {name} at once, 3 s: gap", late, must=0.003)


def unique_demands(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """The same with requests of which next to none are equal."""
    for seed, name in enumerate(LISTS):
        plan = solver.plan(jittered(openb_list(data, name), seed), seconds=3.0)
        what = f"openb {name} at once, nearly unique demands, 3 s: gap"
        yield _gap(what, plan, must=0.01, aim=0.005)


def overload(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """Far more than fits, at four levels of priority."""
    problem = overloaded(openb_list(data, "default"), 6, factor=OVERLOAD)
    plan = solver.plan(problem, seconds=OVERLOAD_SECONDS)
    what = f"openb default x {OVERLOAD}, four priorities, {OVERLOAD_SECONDS:.0f} s"
    yield _gap(f"{what}: gap over all levels together", plan, must=0.02, aim=0.005)
    worst = max(term.gap for term in plan.objective)
    yield Case(case=f"{what}: largest gap of a level", value=worst, unit="gap", better="lower")
    flat = replace(problem, tasks=tuple(replace(task, priority=0) for task in problem.tasks))
    plan = solver.plan(flat, seconds=OVERLOAD_SECONDS)
    what = f"openb default x {OVERLOAD}, one priority, {OVERLOAD_SECONDS:.0f} s: gap"
    yield _gap(what, plan, note="prototype, 12,000 tasks, 3 s: 1.46 %; 5 s: 1.39 %")


def few_nodes(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """Random nodes of the trace, each list, a few seeds: proven or not, and when."""
    lists = [openb_list(data, name) for name in LISTS]
    problems = [
        excerpt(whole, seed, nodes=EXCERPT_NODES, demand=demand)
        for whole in lists
        for seed, demand in enumerate(EXCERPT_DEMANDS)
    ]
    plans = [solver.plan(problem, seconds=EXCERPT_SECONDS) for problem in problems]
    what = f"{len(problems)} times {EXCERPT_NODES} nodes of openb, all lists"
    yield Case(
        case=f"{what}, {EXCERPT_SECONDS:.0f} s: proven optimal",
        value=proven_ratio(plans),
        unit="ratio",
        better="higher",
        must=1.0,
        note="naive CP-SAT, 30 s: gap 0.00 % at 8 nodes, 0.37 % at 16",
    )
    seconds = [plan.stats.seconds for plan in plans]
    yield Case(case=f"{what}: median", value=quantile(seconds, 0.5), unit="s", better="lower")
    yield Case(case=f"{what}: longest", value=max(seconds), unit="s", better="lower", aim=1.0)
    whole = [replace(problem, objective=DEFAULT_OBJECTIVE) for problem in problems]
    others = [solver.plan(problem, seconds=EXCERPT_SECONDS) for problem in whole]
    for pair in zip(plans, others, strict=True):
        compare_proofs(pair)
    yield Case(
        case=f"{what}, {EXCERPT_SECONDS:.0f} s, default objective: proven optimal in every term",
        value=proven_ratio(others),
        unit="ratio",
        better="higher",
    )


def defragment(solver: CheckedSolver, data: Path) -> Iterator[Case]:
    """A cluster packed at random: whole devices freed by a few moves, beside the greedy way.

    A move frees one device at most, so where the greedy way does so each time nobody frees more.
    """
    whole = replace(openb_list(data, "default"), objective=("placed", "fragmentation"))
    for load in DEFRAGMENT_LOADS:
        problem = packed_at_random(whole, 1, load=load)
        what = f"defragment openb at {load:.0%}, {DEFRAGMENT_SECONDS:.0f} s"
        moves = DEFRAGMENT_MOVES
        ours, greedy = _freed(solver, problem, moves), consolidate(problem, moves)
        yield Case(
            case=f"{what}, {moves} moves at most: devices freed per move, to greedy",
            value=(ours.freed / ours.moves) / (greedy.freed / greedy.moves),
            unit="ratio",
            better="higher",
            must=1.0,
            aim=2.0,
            note=_told(ours, greedy),
        )
        moves = MANY_MOVES
        ours, greedy = _freed(solver, problem, moves), consolidate(problem, moves)
        yield Case(
            case=f"{what}, {moves} moves at most: devices freed, to greedy",
            value=ours.freed / greedy.freed,
            unit="ratio",
            better="higher",
            note=_told(ours, greedy),
        )


def _freed(solver: CheckedSolver, problem: Problem, moves: int) -> Consolidation:
    asked = replace(problem, budget=replace(problem.budget, max_moves=moves))
    plan = solver.plan(asked, seconds=DEFRAGMENT_SECONDS)
    before = devices_in_use({task.id: task.placed for task in problem.tasks})
    after = devices_in_use({p.task: p.replicas for p in plan.placements})
    touched = len(plan.moved) + len(plan.evicted)
    return Consolidation(freed=before - after, moves=max(1, touched))


def _told(ours: Consolidation, greedy: Consolidation) -> str:
    return f"{ours.freed} devices by {ours.moves} moves; greedy: {greedy.freed} by {greedy.moves}"


GROUPS: Mapping[str, Callable[[CheckedSolver, Path], Iterator[Case]]] = {
    "openb: quick answer": quick_answer,
    "openb: lists at once": lists_at_once,
    "openb: nearly unique demands": unique_demands,
    "openb: overload with priorities": overload,
    "openb: 12 nodes": few_nodes,
    "openb: defragment": defragment,
}


def _gap(
    what: str, plan: Plan, *, must: float | None = None, aim: float | None = None, note: str = ""
) -> Case:
    gap = gap_of(plan.objective)
    return Case(case=what, value=gap, unit="gap", better="lower", must=must, aim=aim, note=note)
