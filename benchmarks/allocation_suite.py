"""Shares over time: values against the published ones, and times beside the peer's formulation.

The peer is Gavel (OSDI 2020), which states every rule of every job in one program. Here the same
programs are built with sparse matrices and given to scipy's HiGHS in the same run. Times are the
processor's seconds of one process.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from app.planning.documents import parse
from benchmarks import share_cases
from benchmarks.harness import Case, LeftOut
from solver.allocation.allocation import Allocation
from solver.allocation.check import unfilled, violations
from solver.allocation.jobs import Jobs, Policy
from solver.allocation.policies import allocate

SIZES = (64, 256, 1024, 2048, 4096)
PUBLISHED: Mapping[Policy, tuple[float, ...]] = {
    Policy.MAX_MIN_FAIRNESS: (0.906520, 0.939304, 0.930366, 0.925793, 0.923922),
    Policy.MAX_THROUGHPUT: (1849.9, 6394.8, 23843.4, 47012.1, 94326.2),
    Policy.MAKESPAN: (123.846, 154.962, 163.110, 165.663, 166.468),
    Policy.FINISH_TIME_FAIRNESS: (8.788, 19.214, 21.715, 21.715, 21.715),
}
"""Of Gavel's policies on these files, makespans in hours."""
PEER_SECONDS: Mapping[Policy, tuple[int, float]] = {
    Policy.MAX_MIN_FAIRNESS: (4096, 0.19),
    Policy.MAX_THROUGHPUT: (4096, 0.18),
    Policy.MAKESPAN: (4096, 0.41),
    Policy.FINISH_TIME_FAIRNESS: (4096, 24.4),
}
LIMITS: Mapping[Policy, tuple[int, float, float]] = {
    Policy.MAX_MIN_FAIRNESS: (4096, 0.3, 0.1),
    Policy.MAX_THROUGHPUT: (4096, 0.3, 0.1),
    Policy.MAKESPAN: (4096, 0.3, 0.1),
    Policy.FINISH_TIME_FAIRNESS: (4096, 2.0, 0.5),
    Policy.WATER_FILLING: (1024, 2.0, 0.5),
    Policy.MIN_COST: (4096, 2.0, 0.5),
}
"""Jobs, the must and the aim in seconds."""
REPEATS = 5
NOTE = {Policy.WATER_FILLING: "Gavel: more than 150 s, and not lexicographic"}


def run() -> Iterator[Case | LeftOut]:
    """Values first, then times, then what is generated with as many kinds of job as jobs."""
    data = os.environ.get("BENCH_DATA")
    if data:
        questions = {size: _question(Path(data), f"jobs_n{size}_seed2.json") for size in SIZES}
        yield from _values(questions)
        yield _against_whole_programs(questions[1024], "1024 jobs")
        gangs = _question(Path(data), "jobs_multi_n256_seed2.json")
        yield _against_whole_programs(gangs, "256 jobs in gangs of 1 to 8")
        yield from _times(questions)
    else:
        for name in ("gavel: values", "gavel: times"):
            yield LeftOut(case=name, reason="BENCH_DATA isn't set")
    yield from _generated()
    yield from share_cases.cases()


def _question(data: Path, name: str) -> Jobs:
    return parse("jobs", (data / "gavel" / name).read_bytes())


def _checked(asked: Jobs, policy: Policy) -> Allocation:
    found = allocate(asked, policy, clock=time.perf_counter)
    broken = violations(asked, found)
    if broken:
        raise AssertionError(f"{policy}: {broken[0]}")
    return found


def _values(questions: Mapping[int, Jobs]) -> Iterator[Case]:
    for policy, published in PUBLISHED.items():
        unit = 3600.0 if policy is Policy.MAKESPAN else 1.0
        worst = max(
            abs(_checked(questions[size], policy).objective / unit - value) / value
            for size, value in zip(SIZES, published, strict=True)
        )
        yield Case(
            case=f"gavel, {policy}: largest relative difference to the published values",
            value=worst,
            unit="ratio",
            better="lower",
            must=1e-3,
            aim=1e-4,
            note=f"{SIZES[0]} to {SIZES[-1]} jobs; the published ones have four to six digits",
        )


def _against_whole_programs(asked: Jobs, name: str) -> Case:
    worst = 0.0
    for policy in (Policy.MAX_MIN_FAIRNESS, Policy.MAX_THROUGHPUT, Policy.MAKESPAN):
        expected = _PEERS[policy](asked)
        worst = max(worst, abs(_checked(asked, policy).objective - expected) / expected)
    return Case(
        case=f"gavel, {name}: largest relative difference to whole programs",
        value=worst,
        unit="ratio",
        better="lower",
        must=1e-3,
        aim=1e-4,
    )


def _times(questions: Mapping[int, Jobs]) -> Iterator[Case]:
    for policy, (size, must, aim) in LIMITS.items():
        asked = questions[size]
        _checked(asked, policy)
        seconds = _median(lambda p=policy, a=asked: allocate(a, p))
        note = NOTE.get(policy, "")
        if policy in PEER_SECONDS:
            note = f"Gavel's own code: {PEER_SECONDS[policy][1]} s"
        yield Case(
            case=f"gavel, {policy}, {size} jobs",
            value=seconds,
            unit="s",
            better="lower",
            must=must,
            aim=aim,
            note=note,
        )
        if policy in _PEERS:
            start = time.process_time()
            _PEERS[policy](asked)
            whole = time.process_time() - start
            yield Case(
                case=f"gavel, {policy}, {size} jobs: times faster than the whole program",
                value=whole / seconds,
                unit="ratio",
                better="higher",
                note=f"scipy's HiGHS, built with it: {whole:.2f} s",
            )
    asked = questions[1024]
    yield Case(
        case="gavel, water_filling, 1024 jobs: not proven full by whole programs",
        value=len(unfilled(asked, _checked(asked, Policy.WATER_FILLING))),
        unit="jobs",
        better="lower",
        must=0,
        aim=0,
    )


def _generated() -> Iterator[Case]:
    """No two jobs alike, gangs, weights: nothing to merge."""
    for jobs, types in ((4096, 3), (4096, 8)):
        asked = _unlike(jobs, types)
        for policy in (Policy.MAX_MIN_FAIRNESS, Policy.MAX_THROUGHPUT, Policy.MAKESPAN):
            _checked(asked, policy)
            yield Case(
                case=f"{jobs} jobs that all differ on {types} types, {policy}",
                value=_median(lambda p=policy, a=asked: allocate(a, p)),
                unit="s",
                better="lower",
            )
    for types in (3, 8):
        asked = _unlike(1024, types)
        found = _checked(asked, Policy.WATER_FILLING)
        yield Case(
            case=f"1024 jobs that all differ on {types} types, water_filling",
            value=_median(lambda a=asked: allocate(a, Policy.WATER_FILLING)),
            unit="s",
            better="lower",
            note=f"{len(unfilled(asked, found))} jobs not proven full",
        )


def _unlike(jobs: int, types: int) -> Jobs:
    rng = np.random.default_rng(jobs + types)
    names = [f"t{j}" for j in range(types)]
    speed = rng.lognormal(0, 1, (jobs, 1)) * rng.lognormal(0, 0.7, (jobs, types))
    document = {
        "version": 1,
        "accelerators": {name: int(rng.integers(jobs // 8, jobs // 2)) for name in names},
        "jobs": [
            {
                "id": f"job-{i}",
                "gpus": int(rng.choice([1, 1, 1, 2, 4, 8])),
                "weight": float(rng.choice([1.0, 1.0, 2.0])),
                "steps": float(rng.lognormal(8, 1)),
                "throughput": dict(zip(names, row, strict=True)),
            }
            for i, row in enumerate(speed.tolist())
        ],
    }
    return parse("jobs", json.dumps(document).encode())


def _median(work: Callable[[], object]) -> float:
    """Of the processor's seconds, as the peer's times are."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


class _Whole:
    """The peer's program: columns are shares, row by row, then the level."""

    def __init__(self, asked: Jobs) -> None:
        types = list(asked.accelerators)
        rows = [[job.throughput.get(name, 0.0) for name in types] for job in asked.jobs]
        self.speed = np.array(rows)
        self.gpus = np.array([float(job.gpus) for job in asked.jobs])
        self.count = np.array([float(asked.accelerators[name]) for name in types])
        self.steps = np.array([job.steps or 0.0 for job in asked.jobs])
        self.elapsed = np.array([job.elapsed_seconds for job in asked.jobs])

    def highest(self, per_level: np.ndarray) -> float:
        """The largest level at which each job makes the level times ``per_level``."""
        m, k = self.speed.shape
        job, kind = np.divmod(np.arange(m * k), k)
        column = np.arange(m * k)
        parts = [job, m + kind, m + k + job, m + k + np.arange(m)]
        columns = [column, column, column, np.full(m, m * k)]
        values = [np.ones(m * k), self.gpus[job], -self.speed.ravel(), per_level]
        rows = sparse.csr_array(
            sparse.coo_array(
                (np.concatenate(values), (np.concatenate(parts), np.concatenate(columns))),
                shape=(2 * m + k, m * k + 1),
            )
        )
        sides = np.concatenate([np.ones(m), self.count, np.zeros(m)])
        cost = np.zeros(m * k + 1)
        cost[-1] = -1.0
        found = linprog(cost, A_ub=rows, b_ub=sides, method="highs")
        return -float(found.fun)

    def most(self) -> float:
        m, k = self.speed.shape
        job, kind = np.divmod(np.arange(m * k), k)
        column = np.tile(np.arange(m * k), 2)
        entries = np.concatenate([np.ones(m * k), self.gpus[job]])
        rows = sparse.csr_array(
            sparse.coo_array(
                (entries, (np.concatenate([job, m + kind]), column)), shape=(m + k, m * k)
            )
        )
        sides = np.concatenate([np.ones(m), self.count])
        return -float(linprog(-self.speed.ravel(), A_ub=rows, b_ub=sides, method="highs").fun)


def _max_min(asked: Jobs) -> float:
    whole = _Whole(asked)
    spread = whole.count / whole.count.sum()
    return whole.highest(whole.speed @ spread / whole.gpus)


def _makespan(asked: Jobs) -> float:
    whole = _Whole(asked)
    return 1e6 / whole.highest(whole.steps / 1e6)  # near 1, for HiGHS's tolerances


def _finish_time(asked: Jobs) -> float:
    """Bisection to 1e-4, a program a step."""
    whole = _Whole(asked)
    shares = whole.count / len(asked.jobs) / whole.gpus[:, None]
    shares = shares / np.maximum(1.0, shares.sum(axis=1, keepdims=True))
    isolated = whole.steps / (whole.speed * shares).sum(axis=1)
    low, high = float((whole.elapsed / isolated).max()), 1e3
    while high - low > 1e-4 * high:
        rho = (low + high) / 2
        if whole.highest(whole.steps / (rho * isolated - whole.elapsed)) >= 1.0:
            high = rho
        else:
            low = rho
    return high


_PEERS: Mapping[Policy, Callable[[Jobs], float]] = {
    Policy.MAX_MIN_FAIRNESS: _max_min,
    Policy.MAX_THROUGHPUT: lambda asked: _Whole(asked).most(),
    Policy.MAKESPAN: _makespan,
    Policy.FINISH_TIME_FAIRNESS: _finish_time,
}
