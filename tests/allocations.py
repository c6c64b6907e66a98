"""Jobs to share accelerators among, and the policies again as whole linear programs by scipy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from solver.allocation.jobs import Job, Jobs

Floats = npt.NDArray[np.float64]


def random_jobs(seed: int, *, jobs: int, types: int, entities: int = 0) -> Jobs:
    """From 2 to ``jobs`` jobs on 1 to ``types`` types; many throughputs are 0, some jobs alike."""
    rng = np.random.default_rng(seed)
    count, width = int(rng.integers(2, jobs + 1)), int(rng.integers(1, types + 1))
    names = [f"t{j}" for j in range(width)]
    accelerators = {n: int(rng.integers(1, max(3, 2 * count // width))) for n in names}
    kinds = rng.lognormal(0, 1, (max(2, count // 3), width)) + 0.01
    kinds *= rng.random(kinds.shape) < 0.8
    kinds[kinds.max(axis=1) == 0, 0] = 1.0
    found = []
    for i in range(count):
        speed = kinds[rng.integers(len(kinds))]
        most = max(accelerators[n] for n, s in zip(names, speed, strict=True) if s > 0)
        entity = f"e{rng.integers(entities)}" if entities and rng.random() < 0.7 else None
        found.append(
            Job(
                id=f"j{i}",
                gpus=int(rng.integers(1, min(most, 4) + 1)),
                weight=float(rng.choice([0.5, 1.0, 1.0, 2.0])),
                steps=float(rng.lognormal(5, 1)),
                elapsed_seconds=float(rng.choice([0.0, rng.lognormal(3, 1)])),
                throughput={n: float(s) for n, s in zip(names, speed, strict=True)},
                entity=entity,
            )
        )
    named = sorted({job.entity for job in found if job.entity is not None})
    return Jobs(
        version=1,
        accelerators=accelerators,
        jobs=tuple(found),
        cost_per_hour={n: float(rng.uniform(0.5, 4.0)) for n in names},
        entity_weights={name: float(rng.choice([1.0, 2.0])) for name in named},
    )


class WholeProgram:
    """Every rule of every job as a row. Columns: shares, row by row, then the level."""

    def __init__(self, asked: Jobs) -> None:
        self.jobs = asked.jobs
        self.types = list(asked.accelerators)
        self.cost = np.array([asked.cost_per_hour.get(n, 1.0) for n in self.types])
        rows = [[job.throughput.get(n, 0.0) for n in self.types] for job in asked.jobs]
        self.speed = np.array(rows)
        self.gpus = np.array([float(job.gpus) for job in asked.jobs])
        self.weight = np.array([job.weight for job in asked.jobs])
        self.steps = np.array([job.steps or 0.0 for job in asked.jobs])
        self.elapsed = np.array([job.elapsed_seconds for job in asked.jobs])
        self.count = np.array([float(asked.accelerators[n]) for n in self.types])
        spread = self.count / self.count.sum()
        self.norm = self.gpus / (self.speed @ spread)
        m, k = self.speed.shape
        time = np.kron(np.eye(m), np.ones(k))
        use = np.kron(self.gpus, np.eye(k))
        self.rules = np.hstack([np.vstack([time, use]), np.zeros((m + k, 1))])
        self.sides = np.concatenate([np.ones(m), self.count])
        self.makes = np.zeros((m, m * k))
        for i in range(m):
            self.makes[i, i * k : (i + 1) * k] = self.speed[i]

    def highest_level(self, per_level: Floats, base: Floats | float = 0.0) -> float:
        """The largest level at which each job makes ``base + level * per_level`` steps a second."""
        return -self._solve(np.array([*[0.0] * self.makes.shape[1], -1.0]), base, per_level)

    def reaches(self, needed: Floats) -> bool:
        level = self.highest_level(np.where(needed > 0, needed, 1e-9))
        return level >= 1.0 - 1e-9

    def most(self, worth: Floats, needed: Floats | float = 0.0) -> float:
        """The largest sum of ``worth`` [m, k] times shares, each job making ``needed``."""
        return -self._solve(np.array([*-worth.ravel(), 0.0]), needed, 0.0)

    def _solve(self, cost: Floats, base: Floats | float, per_level: Floats | float) -> float:
        m = len(self.speed)
        level = np.broadcast_to(np.asarray(per_level, dtype=float), (m,))[:, None]
        least = np.hstack([-self.makes, level])
        found = linprog(
            cost,
            A_ub=np.vstack([self.rules, least]),
            b_ub=np.concatenate([self.sides, -np.broadcast_to(base, (m,))]),
            method="highs",
        )
        assert found.status == 0, found.message
        return float(found.fun)

    def max_min(self) -> float:
        return self.highest_level(self.weight / self.norm)

    def makespan(self) -> float:
        return 1.0 / self.highest_level(self.steps)

    def finish_time(self) -> float:
        """By bisection of programs."""
        shares = self.count / len(self.jobs) / self.gpus[:, None]
        shares = shares / np.maximum(1.0, shares.sum(axis=1, keepdims=True))
        isolated = self.steps / (self.speed * shares).sum(axis=1)
        low = float((self.elapsed / isolated).max())
        high = low + 1e4
        for _ in range(60):
            rho = (low + high) / 2
            if self.reaches(self.steps / (rho * isolated - self.elapsed)):
                high = rho
            else:
                low = rho
        return high

    def levels_of(self, shares: Sequence[Sequence[float]]) -> Floats:
        """[m] normalised throughputs of shares [m, k]."""
        return (self.speed * np.array(shares)).sum(axis=1) * self.norm

    def water_filled(self) -> Floats:
        """[m] the lexicographic max-min levels over weights, job after job (no entities): raise all
        that can still rise, fix each that no program raises further."""
        m = len(self.jobs)
        fixed = np.zeros(m, dtype=bool)
        ratio = np.zeros(m)
        while not fixed.all():
            base = np.where(fixed, ratio * self.weight / self.norm, 0.0) * (1 - 1e-9)
            level = self.highest_level(np.where(fixed, 0.0, self.weight / self.norm), base)
            ratio = np.where(fixed, ratio, level)
            floor = ratio * self.weight / self.norm * (1 - 1e-9)
            best = []
            for i in np.flatnonzero(~fixed):
                worth = np.zeros_like(self.speed)
                worth[i] = self.speed[i]
                reached = self.most(worth, floor) * self.norm[i] / self.weight[i]
                best.append((reached / max(level, 1e-12) - 1.0, i))
            stuck = [i for rise, i in best if rise < 1e-5] or [min(best)[1]]
            fixed[stuck] = True
        return ratio
