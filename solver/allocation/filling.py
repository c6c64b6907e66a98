"""Water filling: true lexicographic max-min, by entity and weight (docs/model.md, A8).

All entities fill at once, each at the rate of its weight; within one, jobs fill at the rate of
theirs. A job that can't rise any more without another one falling is *full* and keeps its level;
its entity's rate goes to the entity's other jobs.
"""

from dataclasses import dataclass

import numpy as np

from solver.allocation.fleet import Flags, Fleet, Floats, Ints
from solver.allocation.jobs import Jobs
from solver.allocation.levels import PRECISION, LevelSearch, marginal_prices
from solver.allocation.measures import entities

_EASE = 4 * PRECISION
"""Each stage may take more of the accelerators than the one before by so much of all, so that those
that are used up don't forbid, by rounding, what needs none of them."""
_MOST_EASE = 1e-7
_COSTS = 1e-9
"""A rise that costs less of everything, relative to what the level itself costs, is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full each job is at each time. Levels are normalised throughputs."""

    owner: Ints
    """[m] number of each job's entity."""
    rate: Floats
    """[entities]"""
    weight: Floats
    """[m]"""
    top: Floats
    """[m] where each job stops."""

    def stops(self) -> Floats:
        """[m] the time at which each job reaches its ``top``."""
        order = np.lexsort((self.top / self.weight, self.owner))
        owner, weight, top = self.owner[order], self.weight[order], self.top[order]
        total = np.bincount(owner, weights=weight, minlength=len(self.rate))
        first = np.searchsorted(owner, np.arange(len(self.rate)))
        # Of those of the entity that are full by then the levels, of the others the weights.
        full = np.cumsum(top) - top
        full -= full[first][owner]
        passed = np.cumsum(weight) - weight
        passed -= passed[first][owner]
        time = np.empty(len(top))
        time[order] = (full + top / weight * (total[owner] - passed)) / self.rate[owner]
        return time

    def levels(self, time: float, stops: Floats) -> Floats:
        """[m] how full each job is at a time."""
        full = stops <= time
        count = len(self.rate)
        rising = np.bincount(self.owner, weights=np.where(full, 0.0, self.weight), minlength=count)
        held = np.bincount(self.owner, weights=np.where(full, self.top, 0.0), minlength=count)
        with np.errstate(invalid="ignore", divide="ignore"):
            height = (self.rate * time - held) / rising
        return np.where(full, self.top, np.minimum(self.weight * height[self.owner], self.top))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The end of the filling."""

    shares: Floats
    times: Floats
    """[m] when each job was full."""
    price: Floats
    """[k] by how much one more accelerator lifts the level that is full first (A9)."""


def fill(asked: Jobs, fleet: Fleet) -> Filled:
    """Fills all jobs; one stage for each price that stops some of them."""
    owner, rate = entities(asked)
    per_step = fleet.norm_per_step()
    fastest = fleet.fastest
    top = fastest * per_step
    held: Flags = np.zeros(len(top), dtype=bool)
    search = LevelSearch(fleet)
    time, price, ease = 0.0, None, 0.0
    while True:
        state = Fill(owner=owner, rate=rate, weight=fleet.weight, top=top)
        stops = state.stops()

        def needs(at: float, state: Fill = state, stops: Floats = stops) -> Floats:
            return np.minimum(state.levels(at, stops) / per_step, fastest)

        found = search.highest(needs, time, float(stops.max()), room=1.0 + ease)
        ease += _EASE
        if price is None:
            # Where a job's own speed is what stops the first, no accelerator would help.
            own = found.proof is None or stops.min() < found.level
            price = np.zeros(len(fleet.count)) if own else marginal_prices(fleet, found, needs)
        if found.proof is None:
            full = np.minimum(top / per_step, fastest)
            return Filled(shares=search.nearest(full), times=stops, price=price)
        time = found.level
        needed = needs(time)
        rising = ~held & (stops > time)
        slope = np.where(rising, found.proof.envelope.slope_above(needed) * needed, 0.0)
        dear = slope > _COSTS
        if not dear.any() and ease < _MOST_EASE:
            ease *= 10.0  # nobody who rises pays: it was rounding that forbade it
            continue
        if not dear.any():
            dear = rising
        levels = state.levels(time, stops)
        top = np.where(dear, levels, top)
        held |= dear
