"""Made-up histories of running times, of kinds that clusters have: what forecasts are measured on.

Each run is a task's form, when it was submitted, how long it would take, and when it's cut off (a
person cancels it). Medians span four orders of magnitude, as in published traces of GPU clusters
(the median minutes, the longest days: Philly, ATC 2019; Helios, SC 2021).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.durations.knowledge import Run
from app.durations.shapes import Shape, shape_of
from protocol.task import Request, TaskSpec

QUEUES = ("vision", "speech", "search", "robots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A run as it was: ``seconds`` until it ended, or was cut off (``ended`` is False then)."""

    spec: TaskSpec
    shape: Shape
    started_at: float
    seconds: float
    ended: bool

    @property
    def ended_at(self) -> float:
        return self.started_at + self.seconds


@dataclass(slots=True, kw_only=True)
class _Job:
    """Something that is submitted again and again."""

    queue: str
    argv: tuple[str, ...]
    gpus: int
    median: float
    spread: float
    exponent: float = 0.0
    """Of its epochs; 0: it gives none."""


def _jobs(rng: np.random.Generator, count: int, spread: float, *, swept: bool) -> list[_Job]:
    jobs = []
    for at in range(count):
        script = f"train_{'abcdefghijklmnopqrstuvwxyz'[at % 26]}{'xyz'[at // 26 % 3]}.py"
        jobs.append(
            _Job(
                queue=QUEUES[int(rng.integers(len(QUEUES)))],
                argv=("python", script, "--data", f"/data/set-{'abcdef'[int(rng.integers(6))]}"),
                gpus=int(rng.choice([1, 1, 2, 4, 8])),
                median=float(np.exp(rng.normal(math.log(3_000), 1.6))),
                spread=spread,
                exponent=float(rng.uniform(0.7, 1.0)) if swept else 0.0,
            )
        )
    return jobs


def _run(
    rng: np.random.Generator, job: _Job, at: float, number: int, *, times: float = 1.0
) -> Known:
    argv, gpus, median = job.argv, job.gpus, job.median * times
    if job.exponent:
        epochs = int(rng.choice([5, 10, 20, 50, 100, 200]))
        gpus = int(rng.choice([1, 2, 4, 8]))
        median *= (epochs / 30) ** job.exponent / (gpus / 2) ** 0.7
        argv = (*argv, "--epochs", str(epochs), "--seed", str(int(rng.integers(1, 10_000))),
                "--lr", f"{10 ** rng.uniform(-5, -2):.2e}")  # fmt: skip
    spec = TaskSpec(
        name=f"{job.argv[1][:-3].replace('_', '-')}-{number}",
        argv=(*argv, "--out", f"/runs/{number:08d}"),
        queue=job.queue,
        request=Request(gpus=gpus),
    )
    seconds = median * float(np.exp(rng.normal(0, job.spread)))
    return Known(spec=spec, shape=shape_of(spec), started_at=at, seconds=seconds, ended=True)


def _often(rng: np.random.Generator, count: int) -> np.ndarray:
    """How often each of so many jobs comes: a few make up most."""
    part = rng.permutation(1 / np.arange(1, count + 1) ** 0.9)
    return part / part.sum()


def history(seed: int, runs: int, *, jobs: int = 40, spread: float = 0.3, swept: bool = False,
            drift: float = 0.0, failing: float = 0.0, cut: float = 0.0, life: int = 0,
            every_seconds: float = 120.0) -> list[Known]:  # fmt: skip
    """A history in order of starts.

    Args:
        spread: Of a job's logarithms around its median.
        swept: Whether epochs, seeds and sizes vary from run to run.
        drift: Standard deviation of each job's random walk over the whole history.
        failing: The part that fails within the first twentieth.
        cut: The part that is cancelled, at a moment that has nothing to do with it.
        life: After so many runs a job is replaced by one that nobody has seen; 0: never.
    """
    rng = np.random.default_rng(seed)
    known: list[Known] = []
    current = _jobs(rng, jobs, spread, swept=swept)
    left = rng.integers(1, 2 * life, jobs) if life else np.full(jobs, runs + 1)
    walks = np.zeros(jobs)
    often = _often(rng, jobs)
    clock = 0.0
    for number in range(runs):
        clock += float(rng.exponential(every_seconds))
        which = int(rng.choice(jobs, p=often))
        left[which] -= 1
        if left[which] < 0:
            new = _jobs(rng, 1, spread, swept=swept)[0]
            new.argv = ("python", f"new_{_word(rng)}.py", *new.argv[2:])
            current[which], left[which] = new, int(rng.integers(1, 2 * life))
        walks += rng.normal(0, drift / math.sqrt(runs), jobs) if drift else 0.0
        run = _run(rng, current[which], clock, number, times=math.exp(walks[which]))
        known.append(_hit(rng, run, failing, cut))
    return known


def _word(rng: np.random.Generator) -> str:
    return "".join(chr(97 + int(rng.integers(26))) for _ in range(6))


def _hit(rng: np.random.Generator, run: Known, failing: float, cut: float) -> Known:
    seconds, ended, chance = run.seconds, True, rng.random()
    if chance < failing:
        seconds *= float(rng.uniform(0, 0.05))
    elif chance < failing + cut:
        seconds, ended = seconds * float(rng.uniform(0, 1)), False
    return Known(spec=run.spec, shape=run.shape, started_at=run.started_at,
                 seconds=max(seconds, 1.0), ended=ended)  # fmt: skip


HISTORIES: dict[str, Callable[[int, int], list[Known]]] = {
    "steady": history,
    "heavy-tailed": lambda seed, runs: history(seed, runs, spread=1.3),
    "drifting": lambda seed, runs: history(seed, runs, drift=2.0),
    "sweeps": lambda seed, runs: history(seed, runs, swept=True),
    "newcomers": lambda seed, runs: history(seed, runs, life=12, swept=True),
    "failing": lambda seed, runs: history(seed, runs, failing=0.25, cut=0.15),
    "all at once": lambda seed, runs: history(
        seed, runs, spread=0.6, swept=True, drift=1.0, failing=0.15, cut=0.1, life=60
    ),
}


def as_known(history: list[Known], now: float) -> list[Run]:
    """What a service knows at ``now`` of a history: those that have started, as they are then."""
    return [
        Run(
            shape=run.shape,
            started_at=run.started_at,
            seconds=min(run.seconds, now - run.started_at),
            over_at=run.ended_at if run.ended_at <= now else None,
            ended=run.ended and run.ended_at <= now,
        )
        for run in history
        if run.started_at < now
    ]
