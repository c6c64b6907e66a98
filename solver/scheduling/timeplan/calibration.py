"""What past predictions teach about the next ones (docs/model.md, T6).

The draws know nothing of tasks that come later and get ahead, and forecasts of durations err. Both
show in how much longer than predicted tasks have waited.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMOOTH_SECONDS = 60.0
"""Added to both sides of a ratio: a minute more or less is no error of a short wait."""
OUTCOMES_MIN = 20
"""From fewer nothing is learned."""
OUTCOMES_KEPT = 400
FACTOR_MAX = 20.0
MISSES = 0.1
"""So many waits may be longer than was told."""
_PACE = 0.02
_DRIFT_MAX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was predicted of a wait, as it was drawn, and how long it was, or has been so far."""

    p50_seconds: float
    p90_seconds: float
    told_p90_seconds: float
    """As it was told, corrected by what was known then."""
    waited_seconds: float
    is_over: bool = True

    @property
    def is_missed(self) -> bool:
        """Whether it was longer than told; a second is no matter."""
        return self.waited_seconds > self.told_p90_seconds + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Factors by which predicted waits are to be stretched (or shortened)."""

    p50: float = 1.0
    p90: float = 1.0

    def corrected(
        self, p50_seconds: float | None, p90_seconds: float | None
    ) -> tuple[float | None, float | None]:
        """A start that is now stays now; the 90 % quantile is never before the median."""
        p50, p90 = _stretched(p50_seconds, self.p50), _stretched(p90_seconds, self.p90)
        if p50 is not None and p90 is not None:
            p90 = max(p50, p90)
        return p50, p90


def calibrated(outcomes: Sequence[Outcome]) -> Calibration:
    """From outcomes in the order in which they ended, those that go on last (T6).

    Conformal (Vovk et al., Algorithmic Learning in a Random World, 2005): of n ratios the
    ⌈(n + 1) q⌉-th in order. One that still waits counts once it has waited longer than was said:
    before that it says nothing. That is as if times never changed. So the 90 % quantile drifts
    besides, a little wider with each miss and a ninth as much narrower with each hit (Gibbs and
    Candès, NeurIPS 2021), which leads to nine hits in ten whatever comes.
    """
    kept = outcomes[-OUTCOMES_KEPT:]
    drift = 0.0
    for outcome in kept:
        if outcome.is_over:
            drift += _PACE * (outcome.is_missed - MISSES)
        elif outcome.is_missed:
            drift += _PACE * (1 - MISSES)
        drift = min(max(drift, -_DRIFT_MAX), _DRIFT_MAX)
    return Calibration(
        p50=_factor([(o, o.p50_seconds) for o in kept], 0.5),
        p90=_factor([(o, o.p90_seconds) for o in kept], 1 - MISSES) * math.exp(drift),
    )


def _factor(said: Sequence[tuple[Outcome, float]], fraction: float) -> float:
    ratios = sorted(
        (outcome.waited_seconds + SMOOTH_SECONDS) / (seconds + SMOOTH_SECONDS)
        for outcome, seconds in said
        if outcome.is_over or outcome.waited_seconds > seconds
    )
    if len(ratios) < OUTCOMES_MIN:
        return 1.0
    place = min(math.ceil((len(ratios) + 1) * fraction), len(ratios))
    return min(max(ratios[place - 1], 1 / FACTOR_MAX), FACTOR_MAX)


def _stretched(seconds: float | None, factor: float) -> float | None:
    if not seconds:
        return seconds
    return max((seconds + SMOOTH_SECONDS) * factor - SMOOTH_SECONDS, 0.0)
