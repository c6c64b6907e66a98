"""Is this an allocation, and is it as fair as water filling has to be? By counting and whole LPs.

Shares nothing with the search: rules are counted job by job, and fairness is proven by linear
programs that state every rule of every job.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import highspy
import numpy as np
from scipy import sparse

from solver.allocation.allocation import Allocation
from solver.allocation.fleet import Fleet, Floats, Ints
from solver.allocation.jobs import Jobs
from solver.allocation.matrices import Matrices, load, run
from solver.errors import Fault
from solver.reading import fault_at

TOLERANCE = 1e-6
"""Of a share, and relative to a count."""
_SAME = 1e-6
"""Relative: levels nearer than this are one."""
_RISE = 1e-7
"""Of the time, times the number of jobs: a rise that isn't one. What rounding leaves over of each
job may all go to one."""


def violations(asked: Jobs, allocation: Allocation) -> tuple[Fault, ...]:
    """Every rule that the shares break (A1); a job that isn't named has none."""
    faults: list[Fault] = []
    gpus = {job.id: job.gpus for job in asked.jobs}
    taken: dict[str, float] = defaultdict(float)
    for job, shares in allocation.shares.items():
        if job not in gpus:
            faults.append(fault_at(f"shares.{job}", shares, "is no job of this question"))
            continue
        for name, share in shares.items():
            path = f"shares.{job}.{name}"
            if name not in asked.accelerators:
                faults.append(fault_at(path, share, "is none of the accelerators"))
            if not (math.isfinite(share) and share >= 0.0):
                faults.append(fault_at(path, share, "is no fraction of the time"))
            taken[name] += gpus[job] * share
        if sum(shares.values()) > 1.0 + TOLERANCE:
            faults.append(fault_at(f"shares.{job}", sum(shares.values()), "is more than all time"))
    for name, amount in taken.items():
        count = asked.accelerators.get(name, 0)
        if amount > count * (1.0 + TOLERANCE):
            faults.append(fault_at(f"accelerators.{name}", amount, f"is more than the {count}"))
    return tuple(faults)


def unfilled(asked: Jobs, allocation: Allocation) -> tuple[Fault, ...]:
    """The jobs that water filling would have filled further (A8); none proves it lexicographic.

    A job is full where it runs on its fastest type all the time, or where no feasible shares raise
    it while everybody else keeps what they have, up to the time at which the job was full. One
    linear program proves that for all jobs that were full at the same time.
    """
    fleet = Fleet.of(asked)
    rows = [[allocation.shares.get(j.id, {}).get(t, 0.0) for t in fleet.types] for j in asked.jobs]
    shares = np.array(rows, dtype=np.float64).reshape(len(asked.jobs), len(fleet.types))
    per_step = fleet.norm_per_step()
    levels = fleet.speed(shares) * per_step
    curves = _curves(asked, levels)
    times = np.empty(len(levels))
    for curve in curves:
        times[curve.members] = curve.times
    by_itself = levels >= fleet.fastest * per_step * (1.0 - _SAME)
    faults: list[Fault] = []
    for group in _groups(times, np.flatnonzero(~by_itself)):
        floor = _levels_at(levels, curves, float(times[group].max()))
        floor[group] = levels[group]
        raised = _raised(fleet, floor / per_step, group)
        gain = (raised - levels[group] / per_step[group]) / fleet.fastest[group]
        if gain.sum() > _RISE * len(levels):
            faults += [
                fault_at(f"shares.{asked.jobs[i].id}", float(levels[i]), _reason(gained))
                for i, gained in zip(group.tolist(), gain.tolist(), strict=True)
                if gained > _RISE
            ]
    return tuple(faults)


def _reason(gained: float) -> str:
    return f"could have {gained:.3g} more of the time without lowering anybody who isn't above"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """How one entity filled. All arrays have an entry a job of it."""

    members: Ints
    times: Floats
    """When each job was full."""
    heights: Floats
    """Level over weight, at that time, of every job of the entity that wasn't full yet."""
    weight: Floats


def _curves(asked: Jobs, levels: Floats) -> list[_Curve]:
    """How each entity filled, told from where its jobs ended."""
    members: dict[object, list[int]] = defaultdict(list)
    for i, job in enumerate(asked.jobs):
        members[(job.entity,) if job.entity is not None else i].append(i)
    curves = []
    for indices in members.values():
        jobs = [asked.jobs[i] for i in indices]
        entity = jobs[0].entity
        rate = jobs[0].weight if entity is None else asked.entity_weights.get(entity, 1.0)
        weight = np.array([job.weight for job in jobs])
        end = levels[indices]
        height = end / weight
        # At the time at which a job is full all others are as high, or full themselves.
        time = np.minimum(weight * height[:, None], end).sum(axis=1) / rate
        curves.append(_Curve(members=np.array(indices), times=time, heights=height, weight=weight))
    return curves


def _levels_at(levels: Floats, curves: list[_Curve], time: float) -> Floats:
    """[m] how full each job was at a time."""
    found = np.empty_like(levels)
    for curve in curves:
        order = np.argsort(curve.times)
        times, heights = curve.times[order], curve.heights[order]
        height = np.interp(time, [0.0, *times], [0.0, *heights])
        found[curve.members] = np.minimum(curve.weight * height, levels[curve.members])
    return found


def _groups(times: Floats, jobs: Ints) -> list[Ints]:
    """The jobs, those of one time together."""
    if not len(jobs):
        return []
    order = jobs[np.argsort(times[jobs], kind="stable")]
    later = np.flatnonzero(np.diff(times[order]) > _SAME * times[order][1:]) + 1
    return np.split(order, later)


def _raised(fleet: Fleet, floor: Floats, group: Ints) -> Floats:
    """[group] the speeds at which the group rises most, each job by its fastest speed, while nobody
    falls below ``floor`` [m]. Columns: shares [m, k].
    """
    jobs, types = fleet.throughput.shape
    job, kind = np.divmod(np.arange(jobs * types), types)
    column = np.arange(jobs * types)
    scale = fleet.fastest
    speed = (fleet.throughput / scale[:, None]).ravel()
    use = fleet.gpus[job] / fleet.count[kind]
    entries = np.concatenate([speed, np.ones(jobs * types), use])
    rows = np.concatenate([job, jobs + job, 2 * jobs + kind])
    rises = np.zeros(jobs)
    rises[group] = 1.0
    height = 2 * jobs + types
    problem = Matrices(
        cost=-speed * rises[job],
        rows=sparse.csc_array(
            sparse.coo_array((entries, (rows, np.tile(column, 3))), shape=(height, jobs * types))
        ),
        least=np.concatenate([floor / scale, np.full(jobs + types, -np.inf)]),
        most=np.concatenate([np.full(jobs, np.inf), np.ones(jobs + types)]),
        lower=np.zeros(jobs * types),
        upper=np.full(jobs * types, np.inf),
        integral=np.zeros(jobs * types, dtype=bool),
        inequalities=height,
    )
    highs = load(problem, integral=False, seconds=math.inf)
    highs.setOptionValue("solver", "ipm")
    highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
    highs.setOptionValue("dual_feasibility_tolerance", 1e-9)
    if run(highs) != highspy.HighsModelStatus.kOptimal:
        return np.full(len(group), np.inf)  # no proof
    found = np.asarray(highs.getSolution().col_value).reshape(jobs, types)
    return fleet.speed(found)[group]
