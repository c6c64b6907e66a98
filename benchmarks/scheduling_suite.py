"""Projects: how many schedules are proven, how far they are from the best known, in what time.
Then the time plan, and the durations that it rests on.

Every schedule is checked by ``solver.scheduling.projects.check`` before its numbers count.
"""

import csv
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from ortools.sat.python import cp_model

from app.planning.psplib import parse_sm
from benchmarks import duration_cases, timeplan_cases
from benchmarks.harness import Case, LeftOut
from solver.scheduling.projects.check import makespan, violations
from solver.scheduling.projects.pipeline import load, schedule
from solver.scheduling.projects.project import Budget, Project, Task
from solver.scheduling.projects.schedule import Schedule, Status

DATA_VARIABLE = "BENCH_DATA"
SECONDS = 10.0
WORKERS = 2
PEER_INSTANCES = {"j60": ("j6025_1", "j6041_1", "j6045_1"), "j120": ("j12011_1", "j12036_1")}
"""Of the hard ones; the plain model takes all its time on each."""
LARGE_TASKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A project of the library and the least makespan that anybody has found."""

    name: str
    project: Project
    best_known: int

    def gap(self, value: int) -> float:
        """How far above the best known, as a part of it."""
        return max(0.0, value / self.best_known - 1)


def run() -> Iterator[Case | LeftOut]:
    """The library's sample, the plain model beside it, then a project of thousands of tasks."""
    data = os.environ.get(DATA_VARIABLE)
    load(Project(version=1, tasks=()))
    if data:
        yield from _library(Path(data) / "psplib")
    else:
        yield LeftOut(case="PSPLIB", reason=f"{DATA_VARIABLE} isn't set")
    yield from _large()
    yield from timeplan_cases.cases()
    yield from duration_cases.cases()


def _library(folder: Path) -> Iterator[Case]:
    sets = {name: _instances(folder, name) for name in ("j30", "j60", "j120")}
    found = {name: [_solve(one) for one in instances] for name, instances in sets.items()}
    proven = fmean(answer.status is Status.OPTIMAL for answer in found["j30"])
    note = f"{len(found['j30'])} projects, {SECONDS:g} s, {WORKERS} workers"
    yield Case(
        case="j30: proven optimal", value=proven * 100, unit="%", better="higher", must=98, aim=100,
        note=note,
    )  # fmt: skip
    for name, must, aim in (("j60", 0.01, 0.005), ("j120", 0.06, 0.04)):
        pairs = list(zip(sets[name], found[name], strict=True))
        gaps = [one.gap(answer.value or 0) for one, answer in pairs]
        share = sum(answer.status is Status.OPTIMAL for answer in found[name])
        yield Case(
            case=f"{name}: above the best known, mean", value=fmean(gaps), unit="gap",
            better="lower", must=must, aim=aim,
            note=f"{len(gaps)} projects, {share} proven, worst {max(gaps):.2%}",
        )  # fmt: skip
    for name, answers in found.items():
        seconds = median(answer.seconds for answer in answers)
        yield Case(case=f"{name}: time, median", value=seconds, unit="s", better="lower")
    yield from _beside_the_plain_model(sets, found)


def _beside_the_plain_model(
    sets: Mapping[str, Sequence[Instance]], found: Mapping[str, Sequence[Schedule]]
) -> Iterator[Case]:
    for name, chosen in PEER_INSTANCES.items():
        ours, theirs = [], []
        for one, answer in zip(sets[name], found[name], strict=True):
            if one.name in chosen:
                ours.append(one.gap(answer.value or 0))
                theirs.append(one.gap(_plain(one)))
        yield Case(
            case=f"{name}: above the best known, against a plain CP-SAT model's",
            value=fmean(ours) / max(fmean(theirs), 1e-9), unit="ratio", better="lower", must=1,
            note=f"{len(ours)} hard projects: {fmean(ours):.2%} against {fmean(theirs):.2%}",
        )  # fmt: skip


def _solve(one: Instance) -> Schedule:
    answer = schedule(one.project, time.monotonic)
    broken = violations(one.project, answer.starts)
    if broken or makespan(one.project, answer.starts) != answer.makespan:
        raise ValueError(f"{one.name}: the schedule is none: {broken[:1]}")
    return answer


def _plain(one: Instance) -> int:
    """The makespan that the formulation of CP-SAT's handbook reaches, on its own."""
    model = cp_model.CpModel()
    horizon = sum(task.duration for task in one.project.tasks)
    starts = {t.id: model.new_int_var(0, horizon, "") for t in one.project.tasks}
    final = model.new_int_var(0, horizon, "")
    for task in one.project.tasks:
        model.add(final >= starts[task.id] + task.duration)
        for other in one.project.tasks:
            if other.id in task.after:
                model.add(starts[task.id] >= starts[other.id] + other.duration)
    intervals = {
        t.id: model.new_fixed_size_interval_var(starts[t.id], t.duration, "")
        for t in one.project.tasks
    }
    for name, capacity in one.project.resources.items():
        held = [task for task in one.project.tasks if task.request.get(name)]
        model.add_cumulative(
            [intervals[t.id] for t in held], [t.request[name] for t in held], capacity
        )
    model.minimize(final)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = SECONDS
    solver.parameters.num_workers = WORKERS
    status = solver.solve(model)
    return (
        round(solver.objective_value)
        if status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
        else horizon
    )


def _large() -> Iterator[Case]:
    """Layers of tasks with a few predecessors each, as pipelines of data have them."""
    draw = np.random.default_rng(0)
    tasks = []
    for i in range(LARGE_TASKS):
        nearest = max(0, i - 500)
        before = sorted(set(draw.integers(nearest, i, 3).tolist())) if i else []
        tasks.append(
            Task(
                id=str(i),
                duration=int(draw.integers(1, 3600)),
                request={"gpu": int(draw.integers(0, 9)), "cpu": int(draw.integers(1, 64))},
                after=tuple(map(str, before)),
            )
        )
    budget = Budget(seconds=SECONDS, workers=WORKERS)
    asked = Project(version=1, resources={"gpu": 64, "cpu": 512}, tasks=tuple(tasks), budget=budget)
    start = time.monotonic()
    first = schedule(asked.with_budget(Budget(seconds=0.0)), time.monotonic)
    seconds = time.monotonic() - start
    yield Case(
        case=f"{LARGE_TASKS:,} tasks: first schedule", value=seconds, unit="s", better="lower",
        note=f"{first.gap or 0:.2%} above its bound",
    )  # fmt: skip
    answer = schedule(asked, time.monotonic)
    if violations(asked, answer.starts):
        raise ValueError("the large project's schedule is none")
    yield Case(
        case=f"{LARGE_TASKS:,} tasks: gap to the bound in {SECONDS:g} s", value=answer.gap or 0.0,
        unit="gap", better="lower",
    )  # fmt: skip
    yield Case(
        case=f"{LARGE_TASKS:,} tasks: time beyond the {SECONDS:g} s given",
        value=max(0.0, answer.seconds - SECONDS), unit="s", better="lower", must=2,
    )  # fmt: skip


def _instances(folder: Path, name: str) -> list[Instance]:
    with (folder / "best_known.csv").open() as file:
        best = {
            (row["set"], row["param"], row["inst"]): row["best_ub"] for row in csv.DictReader(file)
        }
    found = []
    for path in sorted((folder / name).glob("*.sm")):
        param, number = path.stem.removeprefix(name).split("_")
        project = parse_sm(path.read_bytes())
        found.append(
            Instance(
                name=path.stem,
                project=project.with_budget(Budget(seconds=SECONDS, workers=WORKERS)),
                best_known=int(best[name, param, number]),
            )
        )
    return found
