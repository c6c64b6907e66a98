"""Gangs change places: one makes room for itself, or some stop and start in another order."""

import numba
import numpy as np
from numba import int64

from solver.compiled.construct import place_gang, respread
from solver.compiled.places import (
    BY_VALUE,
    DOMAIN_COUNT,
    DOMAIN_WIDTH,
    DOMAINS,
    ENDLESS,
    FEWEST,
    FIRST_UNIT,
    GPUS,
    LOG,
    LOG_LENGTH,
    LOG_WIDTH,
    MEMORY_TYPE,
    NODE,
    NODE_COUNT,
    NODE_WIDTH,
    NODES,
    NONE,
    PACKED,
    RANK,
    REPLICAS,
    RUNNING,
    SHAPE,
    SPREAD,
    TASK,
    UNIT_WIDTH,
    VALUE_COUNT,
    VALUE_START,
)
from solver.compiled.refill import is_allowed, lightest
from solver.compiled.state import (
    accept,
    find,
    has_log_room,
    random_below,
    start,
    stop,
    undo,
    verdict,
    within_limits,
)

NODES_TRIED = 6
PLACES_TRIED = 24
MOST_STOPPED_GANGS = 4


@numba.njit
def stop_gang(m, t):
    """Stops all units of the task."""
    u = m[t + FIRST_UNIT]
    for _ in range(m[t + REPLICAS]):
        if m[u + NODE] != NONE:
            stop(m, u)
        u += UNIT_WIDTH
    respread(m, t)


@numba.njit
def clear(m, t, n):
    """Stops the lightest units on the node until one of the task fits; whether that came about."""
    mark = m[LOG_LENGTH]
    while not find(m, t, n):
        u = lightest(m, n, m[t + RANK])
        if u == NONE:
            undo(m, mark)
            return False
        stop(m, u)
    return True


@numba.njit
def scope(m, t):
    """Where nodes are listed that the whole gang may be on, and how many; at random."""
    last = m[DOMAINS] + (m[DOMAIN_COUNT] - 1) * DOMAIN_WIDTH
    domain = m[t + PACKED]
    if domain == NONE:
        domain = m[t + SPREAD]
        if domain != NONE:
            return m[domain + BY_VALUE], m[m[domain + VALUE_START] + m[domain + VALUE_COUNT]]
        domain = m[DOMAINS] + random_below(m, m[DOMAIN_COUNT]) * DOMAIN_WIDTH
        if domain == last:
            return m[last + BY_VALUE], m[NODE_COUNT]
    if m[domain + VALUE_COUNT] == 0:
        return m[domain + BY_VALUE], np.int64(0)
    value = random_below(m, m[domain + VALUE_COUNT])
    begin = m[m[domain + VALUE_START] + value]
    return m[domain + BY_VALUE] + begin, m[m[domain + VALUE_START] + value + 1] - begin


@numba.njit
def force(m, t):
    """Starts the gang on nodes of one scope, stopping lighter units for it; whether that is enough
    of it.
    """
    nodes, count = scope(m, t)
    if count == 0:
        return False
    u = m[t + FIRST_UNIT]
    n = np.int64(NONE)
    for i in range(m[t + REPLICAS]):
        if not within_limits(m, t, 1):
            return i >= m[t + FEWEST]
        if n == NONE or not find(m, t, n):
            n = np.int64(NONE)
            fewest = ENDLESS
            for _ in range(NODES_TRIED):
                other = m[nodes + random_below(m, count)]
                mark = m[LOG_LENGTH]
                if clear(m, t, other):
                    stopped = m[LOG_LENGTH] - mark
                    if stopped < fewest:
                        n, fewest = other, stopped
                undo(m, mark)
            if n == NONE or not clear(m, t, n):
                respread(m, t)
                return i >= m[t + FEWEST]
        start(m, u, n)
        u += UNIT_WIDTH
    respread(m, t)
    return True


@numba.njit
def scatter(m, begin, end):
    """Starts units that were stopped between two places of the log on any node with room."""
    for i in range(begin, end):
        u = m[m[LOG] + LOG_WIDTH * i]
        if m[u + NODE] != NONE or m[m[u + TASK] + REPLICAS] > 1:
            continue
        t = m[u + TASK]
        for _ in range(PLACES_TRIED):
            n = m[NODES] + random_below(m, m[NODE_COUNT]) * NODE_WIDTH
            if within_limits(m, t, 1) and find(m, t, n):
                start(m, u, n)
                break


@numba.njit
def some_gang(m, gangs, runs):
    """A gang at random that runs, or doesn't; NONE if a few looks find none."""
    for _ in range(PLACES_TRIED):
        t = gangs[random_below(m, gangs.shape[0])]
        if (m[t + RUNNING] > 0) == runs:
            return t
    return np.int64(NONE)


@numba.njit
def some_partial_gang(m, gangs):
    """A gang at random of which not all units run; NONE if a few looks find none."""
    for _ in range(PLACES_TRIED):
        t = gangs[random_below(m, gangs.shape[0])]
        if 0 < m[t + RUNNING] < m[t + REPLICAS]:
            return t
    return np.int64(NONE)


@numba.njit
def rearrange(m, gangs, touched):
    """Some gangs that run stop, and start again in another order, one that waits before them. How
    many are listed in ``touched``.
    """
    count = 0
    waiting = some_gang(m, gangs, False)
    if waiting == NONE or random_below(m, 4) == 0:
        waiting = some_partial_gang(m, gangs)
    if waiting != NONE and random_below(m, 4) > 0:
        touched[count] = waiting
        count += 1
        stop_gang(m, waiting)
        if m[waiting + SPREAD] == NONE and random_below(m, 2) > 0:
            if not force(m, waiting):
                undo(m, 0)
                respread(m, waiting)
            return count
    for _ in range(1 + random_below(m, touched.shape[0] - 1)):
        t = some_gang(m, gangs, True)
        if t == NONE or not has_log_room(m, m[t + REPLICAS], m[t + REPLICAS] * gpus_each(m, t)):
            break
        if m[t + RUNNING] == 0:
            continue
        stop_gang(m, t)
        touched[count] = t
        count += 1
        if count == touched.shape[0]:
            break
    for i in range(count):
        t = touched[i]
        if m[t + RUNNING] == 0 and within_limits(m, t, m[t + FEWEST]):
            place_gang(m, t)
    return count


@numba.njit
def gpus_each(m, t):
    return m[m[t + SHAPE] + GPUS]


@numba.njit(int64(MEMORY_TYPE, MEMORY_TYPE, int64), cache=True)
def improve_gangs(m, gangs, iterations):
    """So many rearrangements; those that made nothing worse are kept. How many were better."""
    touched = np.zeros(MOST_STOPPED_GANGS, np.int64)
    better = 0
    for _ in range(iterations):
        count = rearrange(m, gangs, touched)
        end = m[LOG_LENGTH]
        scatter(m, 0, end)
        sign = verdict(m)
        if sign < 0 or not is_allowed(m):
            undo(m, 0)
            for i in range(count):
                respread(m, touched[i])
        elif sign > 0:
            better += 1
        accept(m)
    return better
