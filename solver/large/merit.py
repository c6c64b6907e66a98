"""What a task is worth on a class of nodes, at the prices of the relaxation."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from solver.arrays import Arrays, Ints

if TYPE_CHECKING:  # a quick answer shouldn't wait for the linear programs
    from solver.highs.relaxation import Guidance

PROFIT = 2.0
"""How much more profit counts than weight. 0.5 to 2 did as well on the openb lists, 0 worse."""
LEAST = 1e-3

Merit = npt.NDArray[np.float64]


def merit_of(arrays: Arrays, guidance: "Guidance") -> tuple[Ints, Ints, Merit]:
    """Task classes, node classes and merit [task classes, node classes]: the weight that a replica
    brings in, and the more what is left of that once the room that it takes is paid for.
    """
    shapes = arrays.shapes
    weight = shapes.weight[:, None].astype(np.float64)
    profit = weight - shapes.need @ guidance.node_price.T
    for c in range(len(guidance.node_price)):
        of = np.unique(guidance.device_class[_devices_of(arrays, guidance, c)])
        of = of[of >= 0]
        if len(of):
            price = guidance.share_price[of][:, shapes.milli].min(axis=0)
            profit[:, c] -= shapes.gpus * price
    merit = np.maximum(weight + PROFIT * profit, LEAST * weight)
    return arrays.shape, np.maximum(guidance.node_class, 0), merit


def _devices_of(arrays: Arrays, guidance: "Guidance", c: int) -> npt.NDArray[np.bool_]:
    node_of = np.repeat(guidance.node_class, np.diff(arrays.cluster.device_start))
    return node_of == c


def kinds_of(guidance: "Guidance") -> Ints:
    """[T] the class of nodes that each task goes to so that each gets its share, -1 for none."""
    kinds = np.full(len(guidance.task_class), -1, dtype=np.int64)
    order = np.argsort(guidance.task_class, kind="stable")
    starts = np.searchsorted(guidance.task_class[order], np.arange(len(guidance.share) + 1))
    for c, share in enumerate(guidance.share):
        members = order[starts[c] : starts[c + 1]]
        ends = np.minimum(np.rint(np.cumsum(share)).astype(np.int64), len(members))
        for kind in np.flatnonzero(share > 0):
            kinds[members[ends[kind - 1] if kind else 0 : ends[kind]]] = kind
    return kinds
