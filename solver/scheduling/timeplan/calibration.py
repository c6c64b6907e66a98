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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was predicted of a wait, uncorrected, and how long it was; or has been so far."""

    p50_seconds: float
    p90_seconds: float
    waited_seconds: float
    is_over: bool = True


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
    """From the newest outcomes; conformal (Vovk et al., Algorithmic Learning in a Random World,
    2005): of n ratios the ⌈(n + 1) q⌉-th in order. One that still waits counts once it has waited
    longer than was said: before that it says nothing."""
    kept = outcomes[-OUTCOMES_KEPT:]
    return Calibration(
        p50=_factor([(o, o.p50_seconds) for o in kept], 0.5),
        p90=_factor([(o, o.p90_seconds) for o in kept], 0.9),
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
