"""The question of an allocation: accelerators, and the jobs that share them over time.

The classes are the JSON form (contract, section 5). Constructing :class:`Jobs` raises
:class:`~solver.errors.InvalidProblem` with every fault; what only one policy asks for is told by
:func:`policy_faults`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen

from solver.errors import Fault, InvalidProblem
from solver.reading import duplicates, fault_at, mapping, numbered, read, text

LEAST, MOST = 1e-9, 1e15
"""Of every quantity that isn't 0: what lies beyond is a mistake in units, and no number in double
precision can be weighed against it."""
COUNT_MAX = 2**53

_STRICT = {"extra": "forbid", "strict": True}

Name = Annotated[str, MinLen(1), MaxLen(256)]


class Policy(StrEnum):
    MAX_MIN_FAIRNESS = "max_min_fairness"
    FINISH_TIME_FAIRNESS = "finish_time_fairness"
    MAKESPAN = "makespan"
    MAX_THROUGHPUT = "max_throughput"
    MIN_COST = "min_cost"
    WATER_FILLING = "water_filling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that may run on several types of accelerator: always on ``gpus`` of one at a time."""

    __pydantic_config__ = _STRICT

    id: Name
    throughput: Mapping[Name, float]
    """Type -> steps a second of the whole gang when it runs there all the time. 0 or absent: it
    can't run there."""
    gpus: int = 1
    weight: float = 1.0
    steps: float | None = None
    """What is left to do. ``makespan``, ``finish_time_fairness`` and deadlines need it."""
    elapsed_seconds: float = 0.0
    """Since the job's submission."""
    deadline_seconds: float | None = None
    """From now until its steps have to be done. Only ``min_cost`` keeps deadlines."""
    entity: Name | None = None
    """Whom ``water_filling`` counts the job's share for. Null: for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """One question. Raises :class:`InvalidProblem` with every fault when it makes no sense."""

    __pydantic_config__ = _STRICT

    version: Literal[1]
    accelerators: Mapping[Name, int]
    """Type -> how many there are."""
    jobs: tuple[Job, ...]
    cost_per_hour: Mapping[Name, float] = field(default_factory=dict)
    """Type -> what one of them costs. Only ``min_cost`` reads it: all types or none."""
    entity_weights: Mapping[Name, float] = field(default_factory=dict)
    """Entity -> what it weighs beside others, 1 where it isn't named."""
    policy: Name | None = None

    def __post_init__(self) -> None:
        faults = semantic_faults(self)
        if faults:
            raise InvalidProblem(faults)


def semantic_faults(document: object) -> tuple[Fault, ...]:
    """Everything that the document, or the raw JSON of one, can be wrong about in itself."""
    counts = _counts(document)
    return (
        *_accelerator_faults(document, counts),
        *duplicates(document, "jobs"),
        *(
            f
            for i, job in numbered(document, "jobs")
            for f in _job_faults(f"jobs[{i}]", job, counts)
        ),
        *_mapped_faults(document, "cost_per_hour", counts),
        *_entity_faults(document),
        *unknown_policy(text(document, "policy"), "policy"),
    )


def unknown_policy(name: str | None, path: str) -> tuple[Fault, ...]:
    if name is None or name in list(Policy):
        return ()
    return (fault_at(path, name, f"is no policy; there are {', '.join(Policy)}"),)


def policy_faults(asked: Jobs, policy: Policy) -> tuple[Fault, ...]:
    """What ``policy`` needs and the document doesn't say."""
    faults: list[Fault] = []
    if policy in {Policy.MAKESPAN, Policy.FINISH_TIME_FAIRNESS}:
        faults += [
            fault_at(f"jobs[{i}].steps", None, f"is needed by {policy}")
            for i, job in enumerate(asked.jobs)
            if job.steps is None
        ]
    if policy is Policy.MIN_COST and asked.cost_per_hour:
        faults += [
            fault_at(
                f"cost_per_hour.{name}", None, f"is needed by {policy}, as other types have one"
            )
            for name in asked.accelerators
            if name not in asked.cost_per_hour
        ]
    return tuple(faults)


def _counts(document: object) -> dict[str, int]:
    """The types whose counts make sense."""
    return {
        name: count
        for name, count in mapping(document, "accelerators").items()
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= COUNT_MAX
    }


def _accelerator_faults(document: object, counts: Mapping[str, int]) -> Iterator[Fault]:
    named = read(document, "accelerators")
    if not isinstance(named, Mapping):
        return
    for name, count in named.items():
        if name not in counts:
            reason = f"has to be an integer from 0 to {COUNT_MAX}"
            yield fault_at(f"accelerators.{name}", count, reason)
    if len(counts) == len(named) and not any(counts.values()):
        yield fault_at("accelerators", named, "has no accelerator to share")


def _job_faults(path: str, job: object, counts: Mapping[str, int]) -> Iterator[Fault]:
    gpus = read(job, "gpus")
    knows_gpus = gpus is None or (isinstance(gpus, int) and not isinstance(gpus, bool))
    if knows_gpus and gpus is not None and not 1 <= gpus <= COUNT_MAX:
        yield fault_at(f"{path}.gpus", gpus, "has to be at least 1")
        knows_gpus = False
    yield from _quantity_faults(job, path, "weight", may_be_zero=False)
    yield from _quantity_faults(job, path, "steps", may_be_zero=False)
    yield from _quantity_faults(job, path, "elapsed_seconds", may_be_zero=True)
    yield from _quantity_faults(job, path, "deadline_seconds", may_be_zero=False)
    if read(job, "deadline_seconds") is not None and read(job, "steps") is None:
        yield fault_at(f"{path}.steps", None, "is needed beside deadline_seconds")
    yield from _throughput_faults(path, job, (gpus or 1) if knows_gpus else None, counts)


def _throughput_faults(
    path: str, job: object, gpus: int | None, counts: Mapping[str, int]
) -> Iterator[Fault]:
    throughput = read(job, "throughput")
    if not isinstance(throughput, Mapping):
        return
    yield from _mapped_faults(job, "throughput", counts, path=f"{path}.", may_be_zero=True)
    runs_on = [name for name, speed in throughput.items() if _is_positive(speed) and name in counts]
    if not runs_on:
        reason = "has no type on which the job makes any steps: it can run nowhere"
        yield fault_at(f"{path}.throughput", throughput, reason)
    elif gpus is not None and (most := max(counts[name] for name in runs_on)) < gpus:
        reason = f"is more than the {most} accelerators of any one type on which the job runs"
        yield fault_at(f"{path}.gpus", gpus, reason)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _entity_faults(document: object) -> Iterator[Fault]:
    known = {text(job, "entity") for _, job in numbered(document, "jobs")}
    for name, weight in mapping(document, "entity_weights").items():
        path = f"entity_weights.{name}"
        if name not in known:
            yield fault_at(path, weight, "is the entity of no job")
        yield from _number_faults(path, weight, may_be_zero=False)


def _mapped_faults(
    holder: object,
    name: str,
    counts: Mapping[str, int],
    *,
    path: str = "",
    may_be_zero: bool = False,
) -> Iterator[Fault]:
    """Faults of a mapping from types of accelerator to quantities."""
    for kind, value in mapping(holder, name).items():
        where = f"{path}{name}.{kind}"
        if counts and kind not in counts:
            yield fault_at(where, value, f"is none of the accelerators {', '.join(counts)}")
        yield from _number_faults(where, value, may_be_zero=may_be_zero)


def _quantity_faults(job: object, path: str, name: str, *, may_be_zero: bool) -> Iterator[Fault]:
    value = read(job, name)
    if value is not None:
        yield from _number_faults(f"{path}.{name}", value, may_be_zero=may_be_zero)


def _number_faults(path: str, value: object, *, may_be_zero: bool) -> Iterator[Fault]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return  # a fault of shape, which the border tells
    if may_be_zero and value == 0:
        return
    if not (isinstance(value, int) or isfinite(value)) or not LEAST <= value <= MOST:
        zero = "0, or " if may_be_zero else ""
        yield fault_at(path, value, f"has to be {zero}from {LEAST:g} to {MOST:g}")
