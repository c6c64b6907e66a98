"""From an order of a project's tasks to start times, and both ways of pushing them together.

Free capacity over time is a list of segments, each linked to the next: segment p begins at
``times[p]``, and ``free[p, k]`` of resource k is left until the next one begins. The last segment
never ends and is always empty. So the cost of a schedule depends on the number of its tasks, and
not on how long they last.

Tasks are numbered so that each comes after those that it waits for. Pushing to the right is
pushing to the left in a mirror, where time runs backwards and each task waits for those that are
behind it.

``network`` is a tuple of arrays: ``durations`` [n]; ``wait_from`` [n + 1] and ``waits``, where
``waits[wait_from[j]:wait_from[j + 1]]`` are the tasks that j waits for; ``need_from`` and ``needs``
likewise, of pairs (resource, amount); ``capacity`` [K]. ``scratch`` is :func:`scratch_for` it.
"""

import numba
import numpy as np
from numba import int64, types, void

END = -1
INTS = int64[::1]
TABLE = int64[:, ::1]
NETWORK = types.Tuple((INTS, INTS, INTS, INTS, TABLE, INTS))


@numba.njit
def scratch_for(network):
    """Room for the segments (time, next, and where each task ended; free capacity) and for the
    ends, heads and keys of tasks.
    """
    n = len(network[0])
    segments = np.empty((3, 2 * n + 2), dtype=np.int64)
    free = np.empty((2 * n + 2, len(network[5])), dtype=np.int64)
    return segments, free, np.empty((3, n), dtype=np.int64)


@numba.njit
def has_room(free, p, needs, first, last):
    """True if segment p has room for needs [first, last)."""
    for i in range(first, last):  # noqa: SIM110 - a generator is slow once compiled
        if free[p, needs[i, 0]] < needs[i, 1]:
            return False
    return True


@numba.njit
def split(times, after, free, count, p, time):
    """Begins a new segment, number ``count``, at ``time`` within segment p."""
    times[count] = time
    after[count] = after[p]
    after[p] = count
    for k in range(free.shape[1]):
        free[count, k] = free[p, k]


@numba.njit
def earliest(network, scratch, heads, ends, j):
    """The earliest start of task j by its head and those it waits for, and its segment."""
    wait_from, waits = network[1], network[2]
    times, after, segment_of = scratch[0][0], scratch[0][1], scratch[0][2]
    start, p = np.int64(0), np.int64(0)
    for i in range(wait_from[j], wait_from[j + 1]):
        if ends[waits[i]] > start:
            start = ends[waits[i]]
            p = segment_of[waits[i]]
    start = max(start, heads[j])
    while after[p] != END and times[after[p]] <= start:
        p = after[p]
    return start, p


@numba.njit
def place_earliest(network, scratch, order, heads, ends):
    """Serial schedule generation (Kolisch, EJOR 90, 1996): each task of ``order`` in turn starts as
    early as its head, the tasks that it waits for, and those placed before allow. Fills ``ends``.
    """
    durations, need_from, needs = network[0], network[3], network[4]
    times, after, segment_of, free = scratch[0][0], scratch[0][1], scratch[0][2], scratch[1]
    times[0] = 0
    after[0] = END
    free[0, :] = network[5]
    count = 1
    for place in range(len(order)):
        j = order[place]
        start, p = earliest(network, scratch, heads, ends, j)
        if durations[j] > 0:
            first, last = need_from[j], need_from[j + 1]
            q = p
            while True:
                if not has_room(free, q, needs, first, last):
                    p = after[q]
                    start = times[p]
                    q = p
                elif after[q] == END or times[after[q]] >= start + durations[j]:
                    break
                else:
                    q = after[q]
            if times[p] < start:
                split(times, after, free, count, p, start)
                q = count if q == p else q
                p = count
                count += 1
            if after[q] == END or times[after[q]] > start + durations[j]:
                split(times, after, free, count, q, start + durations[j])
                count += 1
            stop = after[q]
            while p != stop:
                for i in range(first, last):
                    free[p, needs[i, 0]] -= needs[i, 1]
                p = after[p]
        segment_of[j] = p
        ends[j] = start + durations[j]


@numba.njit(void(NETWORK, types.Tuple((TABLE, TABLE, TABLE)), INTS, INTS), cache=True)
def push_right(mirror, scratch, dues, starts):
    """Right justification (Valls, Ballestin and Quintanilla, EJOR 165, 2005): the tasks, the one
    that ends last first, end as late as ``dues`` and those behind them allow.

    ``starts`` is a schedule in which each task ends by its due; no task starts earlier afterwards.
    In ``mirror`` each task waits for those that are behind it.
    """
    durations, n = mirror[0], len(starts)
    ends, heads, keys = scratch[2][0], scratch[2][1], scratch[2][2]
    final = np.int64(0)
    for j in range(n):
        final = max(final, dues[j])
    for j in range(n):
        heads[j] = final - dues[j]
        keys[n - 1 - j] = -(starts[j] + durations[j])
    order = n - 1 - np.argsort(keys, kind="mergesort")
    place_earliest(mirror, scratch, order, heads, ends)
    for j in range(n):
        starts[j] = final - ends[j]


@numba.njit(void(NETWORK, types.Tuple((TABLE, TABLE, TABLE)), INTS, INTS), cache=True)
def push_left(network, scratch, heads, starts):
    """Left justification: the tasks, the one that starts first first, start as early as their
    heads and those they wait for allow. No task of the schedule ``starts`` starts later afterwards.
    """
    order = np.argsort(starts, kind="mergesort")
    ends = scratch[2][0]
    place_earliest(network, scratch, order, heads, ends)
    for j in range(len(starts)):
        starts[j] = ends[j] - network[0][j]
