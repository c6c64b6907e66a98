"""How long each task takes in each draw (docs/model.md, T1)."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from solver.problem import Task
from solver.scheduling.timeplan.question import FRACTIONS, Quantiles

Seconds = npt.NDArray[np.float64]

CENTRAL = 0
"""The draw in which each task takes its median time; the others are random."""
SHORTEST_SECONDS = 1.0
"""Nothing ends sooner: being placed and ending takes as long."""
_STEP = FRACTIONS[1] - FRACTIONS[0]


def drawn(
    tasks: Sequence[Task], forecasts: Mapping[str, Quantiles], draws: int, seed: int
) -> Seconds:
    """[draws + 1, tasks] seconds; infinite where nothing is known.

    Stratified: of n draws each task has one in every n-th part of its distribution, in an order of
    its own. A task's draws depend on its id and the seed alone, so that two questions about the
    same task differ in what they change and not by chance.
    """
    known = np.array([task.id in forecasts for task in tasks], dtype=bool)
    seconds = np.full((draws + 1, len(tasks)), np.inf)
    if known.any():
        named = [task.id for task in tasks if task.id in forecasts]
        fractions = np.empty((draws + 1, len(named)))
        fractions[CENTRAL] = 0.5
        for column, name in enumerate(named):
            fractions[1:, column] = _stratified(name, draws, seed)
        table = np.array([forecasts[name] for name in named], dtype=np.float64)
        seconds[:, known] = at_fractions(table, fractions)
    return seconds


def at_fractions(quantiles: Seconds, fractions: Seconds) -> Seconds:
    """[draws, tasks] seconds at these fractions of [tasks, 10] quantiles: linear between two, and
    beyond the outermost as the last two go on by their ratio."""
    position = (fractions - FRACTIONS[0]) / _STEP
    at = np.clip(np.floor(position).astype(np.int64), 0, len(FRACTIONS) - 2)
    column = np.arange(quantiles.shape[0])
    low, high = quantiles[column, at], quantiles[column, at + 1]
    between = low + (position - at) * (high - low)
    is_outside = (position < 0) | (position > len(FRACTIONS) - 1)
    ratio = np.divide(high, low, out=np.ones_like(low), where=low > 0)
    outside = np.where(low > 0, low * np.minimum(ratio, 10.0) ** (position - at), between)
    return np.maximum(np.where(is_outside, outside, between), SHORTEST_SECONDS)


def _stratified(name: str, draws: int, seed: int) -> Seconds:
    rng = np.random.default_rng([seed, *name.encode()])
    return (rng.permutation(draws) + rng.random(draws)) / draws
