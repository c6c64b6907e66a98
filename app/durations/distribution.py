"""A distribution of running times: weighted runs, of which some were cut off, and heavy tails.

The formulas are in docs/model.md, D2 (the weighted product-limit), D4 (beyond what was seen) and
D5 (given that it has run already). Time is kept as its logarithm throughout.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Distribution:
    """A continuous distribution of seconds: between its points linear in the logarithm, below the
    first uniform, beyond the last with a Pareto tail of index 1."""

    logs: Floats
    """Logarithms of seconds, ascending."""
    below: Floats
    """The part of all runs that takes at most so long; ascending, in [0, 1)."""

    def survival(self, seconds: float) -> float:
        """P(T > seconds): never 0, however long."""
        if seconds <= 0:
            return 1.0
        x = math.log(seconds)
        logs, below = self.logs, self.below
        at = int(np.searchsorted(logs, x, side="right"))
        if at == 0:
            return float(1 - below[0] * math.exp(x - logs[0]))
        if at == len(logs):
            return float((1 - below[-1]) * math.exp(logs[-1] - x))
        part = (x - logs[at - 1]) / (logs[at] - logs[at - 1])
        return float(1 - below[at - 1] - part * (below[at] - below[at - 1]))

    def quantiles(self, fractions: Floats, *, elapsed_seconds: float = 0.0) -> Floats:
        """Seconds within which these fractions (ascending) are over of those runs that take more
        than ``elapsed_seconds``: each is more than that, none is less than the one before."""
        surviving = self.survival(elapsed_seconds) * (1 - fractions)
        wanted = 1 - surviving
        logs, below = self.logs, self.below
        found = np.exp(np.interp(wanted, below, logs))
        low = wanted < below[0]
        if low.any():
            found[low] = math.exp(logs[0]) * wanted[low] / below[0]
        high = surviving < 1 - below[-1]
        found[high] = math.exp(logs[-1]) * (1 - below[-1]) / surviving[high]
        return np.maximum.accumulate(np.maximum(found, math.nextafter(elapsed_seconds, math.inf)))


def product_limit(logs: Floats, ended: NDArray[np.bool_], weights: Floats) -> Distribution:
    """The distribution that weighted runs speak for (D2). What the weights leave to 1 lies beyond
    the longest.

    Args:
        logs: Logarithms of seconds, one or more, in any order.
        ended: False for a run that was cut off: it would have taken longer.
        weights: Positive; their sum is below 1.
    """
    order = np.lexsort((~ended, logs))  # of those that took equally long, first who ended
    x, is_end, w = logs[order], ended[order], weights[order]
    at_risk = 1 - np.concatenate(([0.0], np.cumsum(w)[:-1]))
    surviving = np.cumprod(np.where(is_end, 1 - w / at_risk, 1.0))
    keep = is_end.copy()
    keep[-1] = True  # also one that was cut off: up to there it has been seen
    return Distribution(logs=x[keep], below=np.asarray(1 - surviving[keep], dtype=np.float64))
