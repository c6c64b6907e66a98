"""How running time grows with the numbers of a command line: a power law for each, robustly fitted.

The formula is in docs/model.md, D3. Most numbers (seeds, learning rates) change nothing, and a few
runs must not make believe that they do: exponents are drawn to 0, and outliers count less.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.durations.distribution import Floats

EXPONENT_DEVIATION = 0.5
"""Of an exponent about which nothing is known yet: between none and proportional."""
RUNS_MIN = 4
"""That ended; of fewer nothing is learned."""
FACTOR_LOG_MAX = math.log(100)
"""Nothing is scaled further than this, either way."""
_ROUNDS = 6
_NOISE_MIN = 0.01
_HUBER = 1.5
"""In units of the noise: what lies further out counts less (Huber, 1964)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PowerLaw:
    """``log seconds`` changes with each number's logarithm, by its exponent."""

    means: Floats
    exponents: Floats

    def predict(self, logs: Floats) -> Floats:
        """What the numbers add to the logarithm of seconds; NaN is a number that isn't given."""
        known = np.where(np.isnan(logs), 0.0, logs - self.means)
        return np.clip(known @ self.exponents, -FACTOR_LOG_MAX / 2, FACTOR_LOG_MAX / 2)


def matrix(names: Sequence[str], numbers: Sequence[Mapping[str, float]]) -> Floats:
    """Runs x names; NaN where a run doesn't give that number."""
    rows = [[one.get(name, math.nan) for name in names] for one in numbers]
    return np.array(rows, dtype=np.float64).reshape(len(numbers), len(names))


def fit(logs: Floats, log_seconds: Floats) -> PowerLaw:
    """The law of runs that ended: ridge regression, reweighted for outliers until it rests."""
    count = np.maximum((~np.isnan(logs)).sum(axis=0), 1)
    means = np.nansum(logs, axis=0) / count
    if len(log_seconds) < RUNS_MIN:
        return PowerLaw(means=means, exponents=np.zeros_like(means))
    x = np.where(np.isnan(logs), 0.0, logs - means)
    exponents = np.zeros_like(means)
    residuals = log_seconds - np.median(log_seconds)
    for _ in range(_ROUNDS):
        spread = np.abs(residuals - np.median(residuals))
        noise = max(1.4826 * float(np.median(spread)), _NOISE_MIN)
        weights = np.minimum(1.0, _HUBER * noise / np.maximum(spread, 1e-9))
        centred = x - np.average(x, axis=0, weights=weights)
        y = log_seconds - np.average(log_seconds, weights=weights)
        weighted = centred.T * (weights / noise**2)
        prior = np.eye(len(means)) / EXPONENT_DEVIATION**2
        exponents = np.linalg.solve(weighted @ centred + prior, weighted @ y)
        residuals = y - centred @ exponents
    return PowerLaw(means=means, exponents=np.asarray(exponents, dtype=np.float64))
