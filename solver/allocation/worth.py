"""The shares that are worth most in all, with each job reaching at least a given speed."""

from collections.abc import Sequence

import numpy as np

from solver.allocation.envelope import Envelope
from solver.allocation.fleet import Fleet, Floats
from solver.allocation.levels import within
from solver.allocation.mixing import Mixer

_GAP = 1e-9
"""Relative: a blend so near to the bound is the optimum."""
_MOST_ROUNDS = 2000


def most_worth(
    fleet: Fleet, worth: Floats, needed: Floats, known: Sequence[Floats]
) -> tuple[Floats, Floats]:
    """The shares [m, k] with the largest sum of ``worth`` [m, k] times shares, and what one more
    accelerator of each type [k] would be worth.

    ``needed`` [m] are speeds to reach; ``known`` are shares of which some blend reaches them within
    the counts, not needed where every speed is 0. At given prices of the types each job by itself
    does best; blends of such answers keep the counts (docs/model.md, A10).
    """
    mixer = Mixer()
    ways = list(known) or [np.zeros_like(worth)]
    usage = np.array([fleet.usage(way) for way in ways])
    value = np.array([float((worth * way).sum()) for way in ways])
    blend = mixer.most_worth(usage, value)
    bound = np.inf
    for _ in range(_MOST_ROUNDS):
        cost = fleet.gpus[:, None] * (blend.price / fleet.count) - worth
        envelope = Envelope(fleet.throughput, cost)
        bound = min(bound, float(blend.price.sum()) - envelope.cost(needed))
        if bound - blend.value <= _GAP * abs(bound):
            break
        way = envelope.shares(needed)
        ways.append(way)
        usage = np.vstack([usage, fleet.usage(way)])
        value = np.append(value, float((worth * way).sum()))
        blend = mixer.most_worth(usage, value)
    parts = (w * way for w, way in zip(blend.weight, ways, strict=True) if w > 0)
    shares = sum(parts, start=np.zeros_like(worth))
    return within(fleet, shares), blend.price / fleet.count
