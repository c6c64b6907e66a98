"""The ways to fill one device with shares, of as many sizes as can be told apart."""

import numpy as np
import numpy.typing as npt

from solver.arrays import Ints

Pattern = tuple[int, ...]
"""How many shares of each size; no further share would fit."""


def patterns(sizes: list[int], demand: list[int], room: int, most: int) -> list[Pattern] | None:
    """All maximal patterns of a device with so much room, None if there are more than ``most``.

    ``sizes`` fall, and no pattern has more of one than ``demand``. What is left in a maximal
    pattern is too little for any size of which there are more.
    """
    found: list[Pattern] = []
    taken = [0] * len(sizes)

    def is_maximal(left: int) -> bool:
        return not any(
            size <= left and count < limit
            for size, count, limit in zip(sizes, taken, demand, strict=True)
        )

    def descend(i: int, left: int) -> bool:
        while i < len(sizes) and sizes[i] > left:
            i += 1
        if i == len(sizes):
            if is_maximal(left):
                found.append(tuple(taken))
            return len(found) <= most
        for count in range(min(demand[i], left // sizes[i]), -1, -1):
            taken[i] = count
            if not descend(i + 1, left - count * sizes[i]):
                return False
        taken[i] = 0
        return True

    return found if descend(0, room) else None


def grouped(sizes: Ints, count: npt.NDArray[np.float64], groups: int) -> list[int]:
    """The smallest size of each group, falling, so that least is lost by rounding down to it.

    ``sizes`` rise, each asked for ``count`` times. Dynamic programming over the borders.
    """
    n = len(sizes)
    if n <= groups:
        return sizes[::-1].tolist()
    # loss of the group of sizes i..j: the sum of count x size, less that of count x sizes[i]
    counts = np.concatenate([[0], np.cumsum(count)]).astype(np.float64)
    sums = np.concatenate([[0], np.cumsum(count * sizes)]).astype(np.float64)
    start = np.arange(n)
    loss = (sums[None, 1:] - sums[start, None]) - sizes[:, None] * (
        counts[None, 1:] - counts[start, None]
    )
    loss[start[:, None] > start[None, :]] = np.inf
    best, came = loss[0], [np.zeros(n, dtype=np.int64)]
    for _ in range(groups - 1):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + loss
        came.append(total.argmin(axis=0))
        best = total.min(axis=0)
    starts, end = [], n - 1
    for row in reversed(came):
        starts.append(int(row[end]))
        end = starts[-1] - 1
        if end < 0:
            break
    return [int(sizes[i]) for i in starts]
