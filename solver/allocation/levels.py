"""How high a level can all jobs reach together? Four policies ask only this, each of its own level.

A level t stands for a speed that each job needs, rising with t. Prices of the types prove from
above (what costs more than all accelerators are worth can't be had), blends of the cheapest ways at
those prices prove from below; the search ends where both meet (docs/model.md, A10).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from solver.allocation.envelope import Envelope
from solver.allocation.fleet import Fleet, Floats
from solver.allocation.mixing import Mixer

PRECISION = 1e-12
"""Relative: how much more than the accelerators that there are a blend may take when it's taken to
fit. Shares are then made smaller by as much."""
_MOST_WAYS_PER_TYPE = 8
"""Of more, those that the last blend left out are forgotten."""
_MOST_ROUNDS = 2000
"""A search that hasn't ended by then won't, for lack of precision; its blend is scaled to fit."""
_STEP = 1e-6
"""Relative: over which a level's needs are compared to see how they rise."""

Needs = Callable[[float], Floats]
"""From a level to the speed [m] that each job needs for it, non-decreasing, never above its
fastest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How all jobs are served most cheaply at a price."""

    price: Floats
    """[k] of all accelerators of a type; sums to 1."""
    envelope: Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The highest level, and the proof that there's none above."""

    level: float
    shares: Floats
    """[m, k], within every rule."""
    proof: Way | None
    """At its price a higher level costs more than 1. None where nothing but the jobs' own speed
    bounds the level."""


class LevelSearch:
    """Searches one fleet, again and again: the prices that mattered last are tried first."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._mixer = Mixer()
        types = len(fleet.types)
        self._ways = [self._way(np.full(types, 1 / types))]

    def highest(self, needs: Needs, least: float, most: float, *, room: float = 1.0) -> Level:
        """The highest level from ``least``, which has to be within reach, to ``most``. ``room`` is
        the multiple of the accelerators that may be taken: more than 1 only for rounding's sake.
        """
        level, needed, proof = most, needs(most), None
        ways, usage = self._ways, None
        new = ways
        weight = np.ones(1)
        for _ in range(_MOST_ROUNDS):
            for way in new:
                if way.envelope.cost(needed) > room:
                    level, proof = _last_within(way.envelope, needs, least, level, room), way
                    needed, usage = needs(level), None
            if usage is None:
                usage = self._usage(ways, needed)
            else:
                usage = np.vstack([usage, self._usage(new, needed)])
            blend = self._mixer.least_scale(usage)
            weight = blend.weight
            if blend.value <= room + PRECISION:
                break
            if len(ways) > _MOST_WAYS_PER_TYPE * len(self._fleet.types):
                kept = np.flatnonzero(weight).tolist()
                ways, usage = [ways[i] for i in kept], usage[kept]
            new = [self._way(blend.price)]
            if new[0].envelope.cost(needed) <= room and _is_among(blend.price, ways):
                break  # no better blend in this precision
            ways = [*ways, *new]
        self._ways = [ways[i] for i in np.flatnonzero(weight).tolist()]
        shares = within(self._fleet, self._blended(ways, weight, needed))
        return Level(level=level, shares=shares, proof=proof)

    def nearest(self, needed: Floats) -> Floats:
        """[m, k] shares that give every job the same, largest part of its ``needed`` [m] speed, at
        most all of it.
        """
        ways, proven = self._ways, 0.0
        usage = self._usage(ways, needed)
        blend = self._mixer.least_scale(usage)
        for _ in range(_MOST_ROUNDS):
            new = self._way(blend.price)
            proven = max(proven, new.envelope.cost(needed))
            if blend.value <= max(1.0, proven) * (1.0 + PRECISION) or _is_among(blend.price, ways):
                break
            ways = [*ways, new]
            usage = np.vstack([usage, self._usage([new], needed)])
            blend = self._mixer.least_scale(usage)
        shares = self._blended(ways, blend.weight, needed)
        return within(self._fleet, shares / max(1.0, blend.value))

    def _way(self, price: Floats) -> Way:
        cost = self._fleet.gpus[:, None] * (price / self._fleet.count)
        return Way(price=price, envelope=Envelope(self._fleet.throughput, cost))

    def _blended(self, ways: Sequence[Way], weight: Floats, needed: Floats) -> Floats:
        shares = np.zeros_like(self._fleet.throughput)
        for i in np.flatnonzero(weight).tolist():
            shares += weight[i] * ways[i].envelope.shares(needed)
        return shares

    def _usage(self, ways: Sequence[Way], needed: Floats) -> Floats:
        return np.array([self._fleet.usage(way.envelope.shares(needed)) for way in ways])


def _is_among(price: Floats, ways: Sequence[Way]) -> bool:
    return any(np.abs(way.price - price).max() <= PRECISION for way in ways)


def marginal_prices(fleet: Fleet, found: Level, needs: Needs) -> Floats:
    """[k] by how much one more accelerator of a type lifts the level (docs/model.md, A9): its price
    over what the level itself costs to be lifted.
    """
    if found.proof is None:
        return np.zeros(len(fleet.count))
    needed = needs(found.level)
    step = _STEP * found.level
    rise = (needed - needs(found.level - step)) / step
    lift = float(found.proof.envelope.slope_below(needed) @ rise)
    return found.proof.price / fleet.count / lift


def within(fleet: Fleet, shares: Floats) -> Floats:
    """The shares [m, k] with what rounding put above the rules taken off."""
    kept = np.clip(shares, 0.0, None)
    kept = kept / np.maximum(1.0, kept.sum(axis=1, keepdims=True))
    return kept / np.maximum(1.0, fleet.usage(kept))


def _last_within(envelope: Envelope, needs: Needs, least: float, most: float, room: float) -> float:
    """The level at which everybody's cost is ``room``; at ``most`` it's above."""

    def excess(level: float) -> float:
        return envelope.cost(needs(level)) - room

    if excess(least) >= 0.0:  # by rounding: it's known to be within reach
        return least
    return float(brentq(excess, least, most, xtol=1e-300, rtol=4 * np.finfo(float).eps))  # pyright: ignore[reportArgumentType]
