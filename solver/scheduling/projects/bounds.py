"""What no schedule can beat, proven without search (docs/model.md, S6 and S7)."""

import numpy as np

from solver.scheduling.projects.arrays import ProjectArrays


def lower_bound(arrays: ProjectArrays) -> int:
    """A bound on the objective, makespan or weighted completion."""
    if not arrays.names:
        return 0
    if len(arrays.weights):
        ends = arrays.heads + arrays.durations
        return sum(w * end for w, end in zip(arrays.weights.tolist(), ends.tolist(), strict=True))
    return max(_longest_chain(arrays), _work(arrays))


def _longest_chain(arrays: ProjectArrays) -> int:
    return int((arrays.heads + arrays.durations + arrays.tails()).max())


def _work(arrays: ProjectArrays) -> int:
    """(S7): tasks that start at h or later and have t or more behind them need as long as their
    work takes at full capacity, between h and t before the end.
    """
    heads, tails = arrays.heads, arrays.tails()
    best = 0
    owner = np.repeat(np.arange(len(arrays.names)), np.diff(arrays.network[3]))
    needs = arrays.network[4]
    for k, capacity in enumerate(arrays.capacity.tolist()):
        rows = needs[:, 0] == k
        tasks = owner[rows]
        work = needs[rows, 1].astype(np.float64) * arrays.durations[tasks]
        if capacity == 0 or work.sum() >= 2**52:  # beyond what floats count exactly
            continue
        by_tail = np.argsort(-tails[tasks], kind="stable")
        tasks, work = tasks[by_tail], work[by_tail]
        ends = np.append(np.diff(tails[tasks]) != 0, True)
        for head in _thinned(np.unique(heads[tasks])):
            done = np.cumsum(work * (heads[tasks] >= head))
            later = np.where(done > 0, head + -(-done // capacity) + tails[tasks], 0)
            best = max(best, int(later[ends].max(initial=0)))
    return best


MOST_HEADS = 200
"""With more, every so-manieth is looked at; each gives a bound of its own."""


def _thinned(heads: np.ndarray) -> list[int]:
    return heads[:: max(1, -(-len(heads) // MOST_HEADS))].tolist()
