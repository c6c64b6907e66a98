"""Two weeks of a cluster, played event by event: is what was said of each wait true?

Tasks arrive by day and hardly by night, most are small and some are gangs, a few go first, and how
long they run is heavy-tailed. Who decides knows of a duration only its distribution, as forecasts
do. The rule is the scheduler's: by order, with room held for those who don't fit yet, and backfill
by whoever is most likely gone by then.
"""

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import NormalDist, fmean

import numpy as np

from solver.problem import Device, Node, Problem, Request, Slot, Task
from solver.scheduling.timeplan import FRACTIONS, TimeQuestion
from solver.scheduling.timeplan.calibration import Calibration, Outcome, calibrated
from solver.scheduling.timeplan.planning import play_draws, time_plan

DAY_SECONDS = 86_400.0
_NORMAL = NormalDist()
_P90 = _NORMAL.inv_cdf(0.9)
_SIZES = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 3))
_SIZE_WEIGHTS = (55, 15, 12, 10, 5, 3)
_KINDS = ((0.25, 1.2), (1.0, 0.9), (3.0, 0.7), (6.0, 0.5))
"""Median hours, and sigma of the logarithm."""
_LEARNING = 60
"""So many waits are for learning only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A task, when it comes, and what only the play knows: how long it will run."""

    task: Task
    at: float
    seconds: float
    median: float
    sigma: float

    def quantiles(self, elapsed: float) -> tuple[float, ...]:
        """How long it still runs, given for how long it has: exact, so calibrated."""
        gone = _NORMAL.cdf(math.log(max(elapsed, 1e-9) / self.median) / self.sigma)
        fractions = (gone + fraction * (1 - gone) for fraction in FRACTIONS)
        whole = (
            self.median * math.exp(self.sigma * _NORMAL.inv_cdf(min(one, 1 - 1e-12)))
            for one in fractions
        )
        left = [max(seconds - elapsed, 1.0) for seconds in whole]
        return tuple(float(seconds) for seconds in np.maximum.accumulate(left))


def arrivals(rng: random.Random, *, days: float, gpus: int, load: float) -> list[Arrival]:
    """As many as keep ``load`` of the devices busy in the mean."""
    found: list[Arrival] = []
    mean_seconds = 3600 * fmean(hours * math.exp(sigma**2 / 2) for hours, sigma in _KINDS)
    weighed = zip(_SIZES, _SIZE_WEIGHTS, strict=True)
    mean_gpus = sum(size * replicas * weight for (size, replicas), weight in weighed) / 100
    rate = load * gpus / (mean_seconds * mean_gpus)
    at = 0.0
    while True:
        at += rng.expovariate(2 * rate)
        if at > days * DAY_SECONDS:
            return found
        if rng.random() > 0.5 * (1 + 0.8 * math.sin(2 * math.pi * at / DAY_SECONDS)):
            continue  # thinned: fewer by night
        hours, sigma = rng.choice(_KINDS)
        size, replicas = rng.choices(_SIZES, _SIZE_WEIGHTS)[0]
        found.append(
            Arrival(
                task=Task(
                    id=f"t{len(found)}",
                    priority=int(rng.random() < 0.1),
                    replicas=replicas,
                    request=Request(gpus=size, cpu_milli=size * 1000),
                ),
                at=at,
                seconds=max(hours * 3600 * math.exp(sigma * rng.gauss(0, 1)), 1.0),
                median=hours * 3600,
                sigma=sigma,
            )
        )


@dataclass(slots=True, kw_only=True)
class Said:
    """What was predicted when a task came, as it was drawn and as it was told."""

    at: float
    p50: float
    p90: float
    told_p50: float
    told_p90: float


@dataclass(slots=True, kw_only=True)
class Verdict:
    """How the predictions of those who had to wait came out."""

    waits: int = 0
    drawn_p90: int = 0
    """Within what the draws alone said."""
    told_p50: int = 0
    told_p90: int = 0
    waited_seconds: list[float] = field(default_factory=list)
    told_p90_seconds: list[float] = field(default_factory=list)

    @property
    def drawn_ratio(self) -> float:
        return self.drawn_p90 / max(self.waits, 1)

    @property
    def p50_ratio(self) -> float:
        return self.told_p50 / max(self.waits, 1)

    @property
    def p90_ratio(self) -> float:
        return self.told_p90 / max(self.waits, 1)


class Play:
    """The cluster, and everybody who has come so far."""

    def __init__(self, nodes: int, devices: int) -> None:
        self._nodes = tuple(
            Node(
                id=f"n{n}",
                cpu_milli=devices * 1000,
                devices=tuple(Device(id=f"g{g}") for g in range(devices)),
            )
            for n in range(nodes)
        )
        self._waiting: dict[str, Arrival] = {}
        self._running: dict[str, tuple[Arrival, float, tuple[Slot, ...]]] = {}
        self._said: dict[str, Said] = {}
        self._outcomes: list[Outcome] = []
        self._over = 0
        self.verdict = Verdict()

    def run(self, come: list[Arrival], seconds: float) -> Verdict:
        """For so long: who waits then has no start that could be judged."""
        events: list[tuple[float, int, str]] = [(a.at, 1, a.task.id) for a in come]
        heapq.heapify(events)
        known = {arrival.task.id: arrival for arrival in come}
        while events:
            now, kind, name = heapq.heappop(events)
            if now > seconds:
                break
            if kind == 0:
                del self._running[name]
            else:
                self._waiting[name] = known[name]
            for started, end in self._start(now):
                heapq.heappush(events, (end, 0, started))
            if kind == 1 and name in self._waiting:
                self._predict(name, now)
        return self.verdict

    def _start(self, now: float) -> Iterator[tuple[str, float]]:
        """The rule: who fits now beside the room of those before them, if who runs takes their
        median time and who would start runs as long as in nine of ten cases."""
        if not self._waiting:
            return
        asked = self._question(now)
        running = np.array(
            [[asked.forecasts[task.id][4] for task in asked.running]], dtype=np.float64
        )
        longest = (self._waiting[task.id] for task in asked.waiting)
        waiting = np.array([[a.median * math.exp(a.sigma * _P90) for a in longest]])
        draws = play_draws(asked, running, waiting)
        for t, task in enumerate(asked.waiting):
            if draws.answer.start[0, t] > 0:
                continue
            arrival = self._waiting.pop(task.id)
            self._running[task.id] = (arrival, now, draws.slots(0, t))
            self._judge(task.id, now)
            yield task.id, now + arrival.seconds

    def _question(self, now: float) -> TimeQuestion:
        running = {
            name: (replace(arrival.task, placed=slots), arrival.quantiles(now - since))
            for name, (arrival, since, slots) in self._running.items()
        }
        tasks = (
            *(task for task, _ in running.values()),
            *(arrival.task for arrival in self._waiting.values()),
        )
        forecasts = {name: seconds for name, (_, seconds) in running.items()}
        forecasts |= {name: a.quantiles(0.0) for name, a in self._waiting.items()}
        return TimeQuestion(
            problem=Problem(version=1, nodes=self._nodes, tasks=tasks), forecasts=forecasts
        )

    def _predict(self, name: str, now: float) -> None:
        start = time_plan(self._question(now)).start_of(name)
        if start is None or start.p50_seconds is None or start.p90_seconds is None:
            return
        p50, p90 = self._calibration(now).corrected(start.p50_seconds, start.p90_seconds)
        self._said[name] = Said(
            at=now,
            p50=start.p50_seconds,
            p90=start.p90_seconds,
            told_p50=p50 or 0.0,
            told_p90=p90 or 0.0,
        )

    def _calibration(self, now: float) -> Calibration:
        waiting = [_outcome(said, now, is_over=False) for said in self._said.values()]
        return calibrated([*self._outcomes, *waiting])

    def _judge(self, name: str, now: float) -> None:
        said = self._said.pop(name, None)
        if said is None:
            return
        self._outcomes.append(_outcome(said, now, is_over=True))
        self._over += 1
        if self._over <= _LEARNING:
            return
        waited, verdict = now - said.at, self.verdict
        verdict.waits += 1
        verdict.drawn_p90 += waited <= said.p90 + 1
        verdict.told_p50 += waited <= said.told_p50 + 1
        verdict.told_p90 += waited <= said.told_p90 + 1
        verdict.waited_seconds.append(waited)
        verdict.told_p90_seconds.append(said.told_p90)


def _outcome(said: Said, now: float, *, is_over: bool) -> Outcome:
    return Outcome(
        p50_seconds=said.p50,
        p90_seconds=said.p90,
        told_p90_seconds=said.told_p90,
        waited_seconds=now - said.at,
        is_over=is_over,
    )


def history(*, seed: int, days: float = 14.0, nodes: int = 8, load: float = 0.85) -> Verdict:
    """Plays so many days."""
    come = arrivals(random.Random(seed), days=days, gpus=8 * nodes, load=load)
    return Play(nodes, 8).run(come, days * DAY_SECONDS)
