"""What becomes of forecasts whose word doesn't hold: they're stretched or drawn in until it does.

Each of the last runs is forecast anew from what was known when it started. If 90 % of them are to
end within what is said of 90 %, then what is said of a fraction must be what was true of it
(docs/model.md, D6; Kuleshov, Fenner and Ermon 2018).
"""

from dataclasses import dataclass

import numpy as np

from app.durations.distribution import Distribution, Floats, product_limit
from app.durations.knowledge import Knowledge

CHECKED_RUNS = 200
PRIOR_RUNS = 20.0
"""When so many have been checked, half of what the check says is believed."""
_FRACTION_MAX = 1 - 1e-6
_GRID = np.arange(0.025, 1, 0.05)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Correction:
    """Of runs of which it was ``said`` that such a fraction takes at most so long, this fraction
    ``was``: both ascend from 0 to 1."""

    said: Floats
    was: Floats

    def apply(self, raw: Distribution) -> Distribution:
        """What to say instead."""
        logs = np.concatenate((raw.logs, np.log(raw.quantiles(_GRID))))
        below = np.concatenate((raw.below, _GRID))
        order = np.lexsort((below, logs))
        corrected = np.interp(below[order], self.said, self.was)
        return Distribution(logs=logs[order], below=np.maximum.accumulate(corrected))


def check(knowledge: Knowledge) -> Correction | None:
    """How the last forecasts did; None where there's nothing to check."""
    said: list[float] = []
    ended: list[bool] = []
    for run in knowledge.newest(CHECKED_RUNS):
        then = knowledge.distribution(run.shape, as_of=run.started_at)
        if then is not None:
            said.append(min(1 - then.survival(run.seconds), _FRACTION_MAX))
            ended.append(run.ended)
    if not said:
        return None
    count = len(said)
    # The product-limit again, of fractions: who is cut off here would have come further.
    true = product_limit(np.array(said), np.array(ended), np.full(count, 1 / (count + 1)))
    ends = np.concatenate(([0.0], true.logs, [1.0]))
    was = np.concatenate(([0.0], true.below, [1.0]))
    believed = (count * was + PRIOR_RUNS * ends) / (count + PRIOR_RUNS)
    return Correction(said=ends, was=believed)
