"""What shares are worth: the policies' values by plain counting (docs/model.md, A3 to A8).

Policies report these of the shares that they found, so a value never promises more than is given.
"""

import numpy as np

from solver.allocation.fleet import Fleet, Floats, elapsed_of, steps_of
from solver.allocation.jobs import Job, Jobs, Policy


def value(asked: Jobs, fleet: Fleet, policy: Policy, shares: Floats) -> float:
    """The policy's objective for shares [m, k]; 0 for no jobs."""
    if not asked.jobs:
        return 0.0
    speed = fleet.speed(shares)
    match policy:
        case Policy.MAX_MIN_FAIRNESS:
            return float((norms(fleet, speed) / fleet.weight).min())
        case Policy.FINISH_TIME_FAIRNESS:
            return float(finish_time_ratios(asked.jobs, fleet, speed).max())
        case Policy.MAKESPAN:
            return float(durations(asked.jobs, speed).max())
        case Policy.MAX_THROUGHPUT:
            return float(speed.sum())
        case Policy.MIN_COST:
            return float((worth_by_cost(asked, fleet) * shares).sum())
        case Policy.WATER_FILLING:
            return float((norms(fleet, speed) / entity_shares(asked)).min())


def norms(fleet: Fleet, speed: Floats) -> Floats:
    """[m] normalised throughputs (A3)."""
    return speed * fleet.norm_per_step()


def durations(jobs: tuple[Job, ...], speed: Floats) -> Floats:
    """[m] seconds until each job's steps are done at that speed (A5)."""
    with np.errstate(divide="ignore"):
        return steps_of(jobs) / speed


def finish_time_ratios(jobs: tuple[Job, ...], fleet: Fleet, speed: Floats) -> Floats:
    """[m] each job's time from submission to end over its time with a 1/m share (A4)."""
    isolated = durations(jobs, fleet.isolated_speed())
    return (elapsed_of(jobs) + durations(jobs, speed)) / isolated


def worth_by_cost(asked: Jobs, fleet: Fleet) -> Floats:
    """[m, k] steps a second for what an accelerator-hour costs (A7); without costs each is 1."""
    cost = np.array([asked.cost_per_hour.get(name, 1.0) for name in fleet.types])
    return fleet.throughput / cost


def entities(asked: Jobs) -> tuple[np.ndarray, Floats]:
    """[m] the number of each job's entity, and [entities] their weights (A8). A job without an
    entity is one by itself, with its own weight.
    """
    numbers: dict[str, int] = {}
    weights: list[float] = []
    owner = np.zeros(len(asked.jobs), dtype=np.int64)
    for i, job in enumerate(asked.jobs):
        if job.entity is None:
            owner[i] = len(weights)
            weights.append(job.weight)
        else:
            if job.entity not in numbers:
                numbers[job.entity] = len(weights)
                weights.append(asked.entity_weights.get(job.entity, 1.0))
            owner[i] = numbers[job.entity]
    return owner, np.array(weights, dtype=np.float64)


def entity_shares(asked: Jobs) -> Floats:
    """[m] each job's part of its entity's weight, by the jobs' weights, while all of them fill."""
    owner, of_entity = entities(asked)
    weight = np.array([job.weight for job in asked.jobs], dtype=np.float64)
    return of_entity[owner] * weight / np.bincount(owner, weights=weight)[owner]
