"""What a seed stands for: tasks, and blows that fall while they run. Pure."""

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Target(StrEnum):
    """What a blow falls on. All but the last are `kill -9`."""

    AGENT = "agent"
    SHIM = "shim"
    MAIN = "main"
    WORKER = "worker"
    SERVER = "server"
    CANCEL = "cancel"


class Moment(StrEnum):
    """When it falls: after a while, or as soon as an attempt's file of this name is there."""

    LATER = "later"
    INTENT = "intent.json"
    RUNNING = "running.json"
    STOP = "stop.json"
    EXIT = "exit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosTask:
    """One task of a schedule: what its program does, and how it is submitted."""

    seconds: float
    code: int
    leaves: str
    """Behind its end: ``nothing``, a ``child``, or one that has ``escaped`` its session."""
    ignores_term: bool
    replicas: int
    torchrun: bool
    max_restarts: int
    grace_seconds: float
    lingers: bool = False
    """Its first attempt doesn't end by itself."""

    def form(self) -> dict[str, Any]:
        """What the program is told."""
        return {
            "seconds": self.seconds,
            "lingers": self.lingers,
            "code": self.code,
            "leaves": self.leaves,
            "ignores_term": self.ignores_term,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One blow, and for how long what was hit stays away."""

    after_seconds: float
    """Since the blow before."""
    moment: Moment
    target: Target
    away_seconds: float
    choice: float
    """Which of those that could be hit, as a share of their list. A blow on an agent at a file's
    coming hits the agent whose file it is.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All of it. Two of one seed are the same."""

    seed: int
    tasks: tuple[ChaosTask, ...]
    blows: tuple[Blow, ...]

    @property
    def silences_a_node(self) -> bool:
        """Whether an agent stays away for so long that its node is given up."""
        return any(blow.away_seconds >= GIVEN_UP_SECONDS for blow in self.blows)


GIVEN_UP_SECONDS = 24.0
"""Longer than lease, grace and margin of a stand (tests/chaos/stand.py)."""
_WEIGHTS = {
    Target.AGENT: 8,
    Target.SHIM: 5,
    Target.MAIN: 3,
    Target.WORKER: 2,
    Target.CANCEL: 2,
}
_MOMENT_WEIGHTS = {
    Moment.LATER: 5,
    Moment.INTENT: 2,
    Moment.RUNNING: 4,
    Moment.STOP: 1,
    Moment.EXIT: 2,
}
_SERVER_SHARE = 0.1
_TORCHRUN_EVERY, _TORCHRUN_AT = 25, 6
_SILENCE_EVERY, _SILENCE_AT = 50, 18
"""The two that take long: by number, so that each fifty has as many of them."""


def schedule_of(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)
    torchrun = seed % _TORCHRUN_EVERY == _TORCHRUN_AT
    tasks = [_task(rng) for _ in range(rng.randint(1, 3))]
    if torchrun:
        tasks[0] = _torchrun_task(rng)
    # A start of torch takes seconds: its blows fall over a longer time.
    pace_seconds = 1.0 if torchrun else 0.2
    blows = [_blow(rng, pace_seconds) for _ in range(rng.randint(1, 4))]
    if rng.random() < _SERVER_SHARE:
        blows.insert(rng.randint(0, len(blows)), _of(rng, Target.SERVER, pace_seconds))
    if seed % _SILENCE_EVERY == _SILENCE_AT:
        # Nobody but its shim stops the first attempt, and the next one begins elsewhere.
        tasks = [replace(tasks[0], lingers=True, replicas=1, torchrun=False)]
        blows = [_silence(rng)]
    return Schedule(seed=seed, tasks=tuple(tasks), blows=tuple(blows))


def _task(rng: random.Random) -> ChaosTask:
    return ChaosTask(
        seconds=rng.choice([0.0, 0.05, 0.2, 0.5, 1.0]),
        code=rng.choice([0, 0, 0, 1, 3, 17, 143]),
        leaves=rng.choice(["nothing", "nothing", "child", "escaped"]),
        ignores_term=rng.random() < 0.25,
        replicas=rng.choice([1, 1, 1, 2]),
        torchrun=False,
        max_restarts=rng.choice([0, 0, 1, 2]),
        grace_seconds=rng.choice([0.0, 0.2, 0.5]),
    )


def _torchrun_task(rng: random.Random) -> ChaosTask:
    return ChaosTask(
        seconds=rng.choice([0.1, 1.0]),
        code=rng.choice([0, 0, 3]),
        leaves=rng.choice(["nothing", "child"]),
        ignores_term=False,
        replicas=1,
        torchrun=True,
        max_restarts=0,
        grace_seconds=0.5,
    )


def _blow(rng: random.Random, pace_seconds: float) -> Blow:
    [target] = rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))
    return _of(rng, target, pace_seconds)


def _silence(rng: random.Random) -> Blow:
    return Blow(
        after_seconds=0.0,
        moment=Moment.RUNNING,
        target=Target.AGENT,
        away_seconds=GIVEN_UP_SECONDS,
        choice=rng.random(),
    )


def _of(rng: random.Random, target: Target, pace_seconds: float) -> Blow:
    [moment] = rng.choices(list(_MOMENT_WEIGHTS), weights=list(_MOMENT_WEIGHTS.values()))
    return Blow(
        after_seconds=rng.expovariate(1 / pace_seconds) if moment is Moment.LATER else 0.0,
        moment=moment,
        target=target,
        away_seconds=rng.choice([0.0, 0.0, 0.1, 0.4]),
        choice=rng.random(),
    )
