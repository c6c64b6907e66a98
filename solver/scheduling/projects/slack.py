"""How much room a schedule leaves its tasks (docs/model.md, S8 and S9)."""

import numpy as np

from solver.arrays import Ints
from solver.compiled.decoding import push_right, scratch_for
from solver.scheduling.projects.arrays import ProjectArrays


def slack(arrays: ProjectArrays, starts: Ints) -> Ints:
    """[n] (S8): the latest end within the schedule's makespan and the deadlines, less the earliest
    one, if resources were plenty.
    """
    final = int((starts + arrays.durations).max(initial=0))
    latest = np.minimum(arrays.dues, final - arrays.tails())
    return latest - (arrays.heads + arrays.durations)


def critical(arrays: ProjectArrays, starts: Ints) -> np.ndarray:
    """[n] (S9): True for the tasks that stay when all are pushed as late as can be."""
    ends = starts + arrays.durations
    dues = np.minimum(arrays.deadlines, ends.max(initial=0))
    pushed = starts.copy()
    push_right(arrays.mirror, scratch_for(arrays.mirror), dues, pushed)
    return pushed == starts
