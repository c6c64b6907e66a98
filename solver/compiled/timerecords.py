"""What the draws are given and what they fill in: arrays by name, and their types."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

CAUSES = 3
"""Tasks that are named as those whose end makes room."""


class Ground(NamedTuple):
    """Where tasks may go and how many there may be. N nodes, C classes, W windows, M meters (one
    for each limited dimension of a queue)."""

    node_kind: npt.NDArray[np.int64]
    """[N]"""
    sizes: npt.NDArray[np.int64]
    """[C, 2] fewest and most replicas"""
    rule: npt.NDArray[np.int64]
    """[C, 2] rows of ``node_accepts`` and ``group``"""
    node_accepts: npt.NDArray[np.uint8]
    """[rules, node kinds]"""
    group: npt.NDArray[np.int64]
    """[rules, N] replicas of a task go to nodes of one group; NONE: in no group"""
    window_start: npt.NDArray[np.int64]
    """[N + 1] into the next"""
    window: npt.NDArray[np.int64]
    """the windows of each node"""
    window_time: npt.NDArray[np.float64]
    """[W, 2]"""
    window_allows: npt.NDArray[np.uint8]
    """[C, W]"""
    meter_start: npt.NDArray[np.int64]
    """[C + 1] into the next"""
    meter: npt.NDArray[np.int64]
    """[., 2] the meters of each class, and what one replica counts for in it"""
    limit: npt.NDArray[np.int64]
    """[M]"""


class Slots(NamedTuple):
    """What runs: S slots of R running tasks."""

    task: npt.NDArray[np.int64]
    """[S] the task's row"""
    node: npt.NDArray[np.int64]
    """[S]"""
    first: npt.NDArray[np.int64]
    """[S + 1] into the next"""
    device: npt.NDArray[np.int64]
    """numbers within the node"""


class Answer(NamedTuple):
    """J draws, T waiting tasks, U replicas of these at most, P devices of those at most."""

    start: npt.NDArray[np.float64]
    """[J, T]; NEVER"""
    replicas: npt.NDArray[np.int64]
    """[J, T]"""
    node: npt.NDArray[np.int64]
    """[J, U] the replicas of task t begin at ``unit_start[t]``"""
    device: npt.NDArray[np.int64]
    """[J, P] the devices of its k-th replica begin at ``place_start[t] + k gpus``"""
    cause: npt.NDArray[np.int64]
    """[J, T, CAUSES] rows of the tasks whose end made room, latest first; NONE"""


I1, I2, I3 = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
F1, F2 = types.float64[::1], types.float64[:, ::1]
B2 = types.uint8[:, ::1]
GROUND = types.NamedTuple((I1, I2, I2, B2, I2, I1, I1, F2, B2, I1, I2, I1), Ground)
SLOTS = types.NamedUniTuple(I1, 4, Slots)
ANSWER = types.NamedTuple((F2, I2, I2, I2, I3), Answer)
