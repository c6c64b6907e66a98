"""The six policies. What each maximises, and who published it: docs/model.md, A3 to A8."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solver.allocation import deadlines, filling, measures
from solver.allocation.allocation import UNIT, Allocation
from solver.allocation.fleet import Fleet, Floats, elapsed_of, needed_speed, steps_of
from solver.allocation.jobs import Jobs, Policy, policy_faults
from solver.allocation.levels import LevelSearch, marginal_prices
from solver.allocation.worth import most_worth
from solver.errors import InvalidProblem

_SMALLEST_SHARE = 1e-12
"""What is less is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A policy's shares [m, k] and prices [k]."""

    shares: Floats
    price: Floats


def allocate(
    asked: Jobs, policy: Policy | None = None, *, clock: Callable[[], float] = lambda: 0.0
) -> Allocation:
    """The allocation by ``policy``, or else by the document's, or else max-min fairness.

    ``clock`` gives seconds. Raises :class:`InvalidProblem` where the policy needs what isn't there,
    and with every deadline that can't be kept.
    """
    start = clock()
    chosen = policy or Policy(asked.policy or Policy.MAX_MIN_FAIRNESS)
    faults = policy_faults(asked, chosen)
    if faults:
        raise InvalidProblem(faults)
    fleet = Fleet.of(asked)
    found = _POLICIES[chosen](asked, fleet) if asked.jobs else _nothing(fleet)
    price = dict.fromkeys(asked.accelerators, 0.0)
    price.update(zip(fleet.types, found.price.tolist(), strict=True))
    return Allocation(
        policy=chosen,
        status="optimal",
        objective=measures.value(asked, fleet, chosen, found.shares),
        unit=UNIT[chosen],
        shares=_named(asked, fleet, found.shares),
        prices=price,
        seconds=clock() - start,
    )


def _named(asked: Jobs, fleet: Fleet, shares: Floats) -> dict[str, dict[str, float]]:
    none = dict.fromkeys(asked.accelerators, 0.0)
    rows = np.where(shares > _SMALLEST_SHARE, shares, 0.0).tolist()
    return {
        job.id: none | dict(zip(fleet.types, row, strict=True))
        for job, row in zip(asked.jobs, rows, strict=True)
    }


def _nothing(fleet: Fleet) -> Found:
    return Found(shares=np.zeros((0, len(fleet.types))), price=np.zeros(len(fleet.types)))


def _max_min_fairness(_: Jobs, fleet: Fleet) -> Found:
    """(A3) The largest level of which everybody has its weight's multiple."""
    per_level = fleet.weight / fleet.norm_per_step()
    return _at_highest(fleet, per_level)


def _makespan(asked: Jobs, fleet: Fleet) -> Found:
    """(A5) The level is 1/makespan: at it a job needs its steps times the level a second."""
    found = _at_highest(fleet, steps_of(asked.jobs))
    slowest = measures.durations(asked.jobs, fleet.speed(found.shares)).max()
    # Of 1/makespan to seconds.
    return Found(shares=found.shares, price=found.price * slowest**2)


def _at_highest(fleet: Fleet, per_level: Floats) -> Found:
    """The highest level at which each job needs the level times ``per_level`` [m]."""
    fastest = fleet.fastest

    def needs(level: float) -> Floats:
        return np.minimum(level * per_level, fastest)

    found = LevelSearch(fleet).highest(needs, 0.0, float((fastest / per_level).min()))
    return Found(shares=found.shares, price=marginal_prices(fleet, found, needs))


def _finish_time_fairness(asked: Jobs, fleet: Fleet) -> Found:
    """(A4) The level is 1/rho, so that 0 is always within reach."""
    steps, elapsed, fastest = steps_of(asked.jobs), elapsed_of(asked.jobs), fleet.fastest
    isolated = measures.durations(asked.jobs, fleet.isolated_speed())

    def needs(level: float) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = steps * level / (isolated - elapsed * level)
        return np.minimum(needed, fastest)

    most = 1.0 / measures.finish_time_ratios(asked.jobs, fleet, fastest).max()
    found = LevelSearch(fleet).highest(needs, 0.0, float(most))
    # Of 1/rho to rho.
    price = marginal_prices(fleet, found, needs) / found.level**2
    return Found(shares=found.shares, price=price)


def _max_throughput(asked: Jobs, fleet: Fleet) -> Found:
    """(A6) The most steps a second in all, whoever makes them."""
    shares, price = most_worth(fleet, fleet.throughput, np.zeros(len(asked.jobs)), ())
    return Found(shares=shares, price=price)


def _min_cost(asked: Jobs, fleet: Fleet) -> Found:
    """(A7) The most steps a second for each unit of cost, with every deadline kept."""
    needed = needed_speed(asked.jobs)
    ways = deadlines.keep(asked, fleet, needed)
    shares, price = most_worth(fleet, measures.worth_by_cost(asked, fleet), needed, ways)
    return Found(shares=shares, price=price)


def _water_filling(asked: Jobs, fleet: Fleet) -> Found:
    """(A8)"""
    filled = filling.fill(asked, fleet)
    return Found(shares=filled.shares, price=filled.price)


_POLICIES: dict[Policy, Callable[[Jobs, Fleet], Found]] = {
    Policy.MAX_MIN_FAIRNESS: _max_min_fairness,
    Policy.FINISH_TIME_FAIRNESS: _finish_time_fairness,
    Policy.MAKESPAN: _makespan,
    Policy.MAX_THROUGHPUT: _max_throughput,
    Policy.MIN_COST: _min_cost,
    Policy.WATER_FILLING: _water_filling,
}
