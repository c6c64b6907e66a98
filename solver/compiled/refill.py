"""Ruin and recreate: some units of one or two nodes stop, and whatever fits best starts there.

After Schrimpf et al., Record Breaking Optimization Results Using the Ruin and Recreate Principle,
Journal of Computational Physics 159 (2000).
"""

import numba
import numpy as np
from numba import float64, int64, void

from solver.compiled.places import (
    AFTER,
    CLASS,
    ENDLESS,
    FIRST,
    GPUS,
    HOME,
    HOME_COUNT,
    HOME_HELD,
    HOMES,
    LOG,
    LOG_LENGTH,
    LOG_WIDTH,
    MEMORY_TYPE,
    MOST_TOUCHED,
    NODE,
    NONE,
    PICK,
    POOL,
    POOL_LENGTH,
    RANK,
    RUNS_BEFORE,
    SHAPE,
    SINGLE,
    TASK,
    TASK_CLASS,
    TOUCHED,
    UNIT_WIDTH,
    UNITS,
    WEIGHT,
)
from solver.compiled.state import (
    accept,
    find,
    has_room,
    holds,
    put,
    random_below,
    start,
    stop,
    undo,
    verdict,
    within_limits,
)

MOST_STOPPED = 48
MOST_DRAWN = 8
MOST_NODES = 4
MOST_CANDIDATES = MOST_NODES * MOST_STOPPED + MOST_DRAWN

MERIT_TYPE = float64[:, ::1]


@numba.njit
def ruin(m, n, candidates, count, share):
    """Stops about ``share`` percent of a node's movable units; the new number of candidates."""
    u = m[n + FIRST]
    stopped = 0
    while u != NONE and stopped < MOST_STOPPED:
        following = m[u + AFTER]
        if m[u + SINGLE] and (share >= 100 or random_below(m, 100) < share):
            stop(m, u)
            candidates[count] = u
            count += 1
            stopped += 1
        u = following
    return count


@numba.njit
def draw(m, candidates, count, waiting):
    """Adds some of the ``waiting`` first units of the pool, of two at a time the more urgent; the
    new number of candidates.
    """
    wanted = min(MOST_DRAWN, waiting)
    if wanted == 0:
        return count
    place = random_below(m, waiting)
    step = 1 + random_below(m, max(1, waiting // wanted))
    for _ in range(wanted):
        u = m[m[POOL] + place]
        if waiting > 2 * MOST_DRAWN:
            other = m[m[POOL] + random_below(m, waiting)]
            if m[m[other + TASK] + RANK] < m[m[u + TASK] + RANK]:
                u = other
        candidates[count] = u
        count += 1
        place = (place + step) % waiting
    return count


@numba.njit
def sort_by_merit(m, merit, column, candidates, keys, count, noise):
    """Most urgent first, then by merit on this class of node, blurred by ``noise`` percent."""
    for i in range(count):
        blur = 1.0 + (random_below(m, 2 * noise + 1) - noise) / 100.0
        keys[i] = merit[m[m[candidates[i] + TASK] + TASK_CLASS], column] * blur
    for i in range(1, count):
        u, key = candidates[i], keys[i]
        rank = m[m[u + TASK] + RANK]
        j = i - 1
        while j >= 0:
            other = m[m[candidates[j] + TASK] + RANK]
            if other < rank or (other == rank and keys[j] >= key):
                break
            candidates[j + 1] = candidates[j]
            keys[j + 1] = keys[j]
            j -= 1
        candidates[j + 1] = u
        keys[j + 1] = key


@numba.njit
def go_home(m, u):
    """Starts the unit exactly where it ran before, if that is free; it may stay where it would not
    be accepted anew.
    """
    n, t, home = m[u + HOME], m[u + TASK], m[u + HOME_HELD]
    s = m[t + SHAPE]
    if not has_room(m, t, s, n):
        return False
    for i in range(m[s + GPUS]):
        if not holds(m, s, m[home + i]):
            return False
    for i in range(m[s + GPUS]):
        m[m[PICK] + i] = m[home + i]
    start(m, u, n)
    return True


@numba.njit
def is_justified(m, n):
    """Whether each unit evicted from the node gave way there to a more urgent one (C12)."""
    least_urgent = ENDLESS
    for i in range(m[n + HOME_COUNT]):
        u = m[m[n + HOMES] + i]
        if m[u + NODE] == NONE:
            least_urgent = min(least_urgent, m[m[u + TASK] + RANK])
    if least_urgent == ENDLESS:
        return True
    u = m[n + FIRST]
    while u != NONE:
        if m[u + HOME] != n and m[m[u + TASK] + RANK] < least_urgent:
            return True
        u = m[u + AFTER]
    return False


@numba.njit
def is_allowed(m):
    """Whether what the log names keeps to ``max_moves`` and evicts nobody without a reason."""
    if m[RUNS_BEFORE] == 0:
        return True
    if m[TOUCHED] > m[MOST_TOUCHED]:
        return False
    for i in range(m[LOG_LENGTH]):
        u = m[m[LOG] + LOG_WIDTH * i]
        n = m[m[LOG] + LOG_WIDTH * i + 1]
        if n != NONE and not is_justified(m, n):
            return False
        if m[u + NODE] == NONE and m[u + HOME] != NONE and not is_justified(m, m[u + HOME]):
            return False
    return True


@numba.njit
def lightest(m, n, rank):
    """Of the units on the node that the ruins may stop, at this rank or less urgent, the one that
    is missed least: the least urgent, then the one of least weight.
    """
    best, least = np.int64(NONE), ENDLESS
    u = m[n + FIRST]
    while u != NONE:
        t = m[u + TASK]
        if m[u + SINGLE] and m[t + RANK] >= rank:
            worth = m[m[t + SHAPE] + WEIGHT] - m[t + RANK] * 1_000_000_000
            if worth < least:
                best, least = u, worth
        u = m[u + AFTER]
    return best


@numba.njit
def is_among(nodes, size, n):
    found = False
    for i in range(size):
        found = found or nodes[i] == n
    return found


@numba.njit
def some_nodes(m, open_nodes, nodes):
    """Picks one node or a few at random, mostly two; how many."""
    dice = random_below(m, 16)
    wanted = 1 if dice < 4 else 2 if dice < 12 else 3 if dice < 15 else MOST_NODES
    size = 0
    for _ in range(wanted):
        n = open_nodes[random_below(m, open_nodes.shape[0])]
        if not is_among(nodes, size, n):
            nodes[size] = n
            size += 1
    return size


@numba.njit
def recreate(m, candidates, count, nodes, size):
    """Starts each candidate that fits on one of the nodes, in order."""
    for i in range(count):
        u = candidates[i]
        if m[u + NODE] != NONE:
            continue
        t = m[u + TASK]
        if not within_limits(m, t, 1):
            continue
        home = m[u + HOME]
        if (
            home != NONE
            and is_among(nodes, size, home)
            and random_below(m, 8) > 0
            and go_home(m, u)
        ):
            continue
        flip = random_below(m, size)
        for j in range(size):
            n = nodes[(j + flip) % size]
            if find(m, t, n):
                start(m, u, n)
                break


@numba.njit(int64(MEMORY_TYPE, MERIT_TYPE, MEMORY_TYPE, int64), cache=True)
def improve(m, merit, open_nodes, iterations):
    """So many ruins; those that made nothing worse are kept. How many were better."""
    candidates = np.empty(MOST_CANDIDATES, np.int64)
    keys = np.empty(MOST_CANDIDATES, np.float64)
    nodes = np.empty(MOST_NODES, np.int64)
    better = 0
    for _ in range(iterations):
        size = some_nodes(m, open_nodes, nodes)
        waiting = m[POOL_LENGTH]
        count = 0
        for i in range(size):
            share = 100 if random_below(m, 2) == 0 else 20 + random_below(m, 60)
            count = ruin(m, nodes[i], candidates, count, share)
        count = draw(m, candidates, count, waiting)
        noise = 0 if random_below(m, 4) == 0 else 30
        sort_by_merit(m, merit, m[nodes[0] + CLASS], candidates, keys, count, noise)
        recreate(m, candidates, count, nodes, size)
        sign = verdict(m)
        if sign < 0 or not is_allowed(m):
            undo(m, 0)
        elif sign > 0:
            better += 1
        accept(m)
    return better


@numba.njit(void(MEMORY_TYPE, MEMORY_TYPE), cache=True)
def seat(m, where):
    """Starts each unit on the node that ``where`` names for it (NONE for none), with the devices
    that it is listed with, whether there is room or not.
    """
    for i in range(where.shape[0]):
        if where[i] != NONE:
            put(m, m[UNITS] + i * UNIT_WIDTH, where[i])
    accept(m)
