"""Moves on purpose: room is made for whoever is more urgent, and devices are emptied."""

import numba
import numpy as np
from numba import int64

from solver.compiled.construct import place_single
from solver.compiled.places import (
    AFTER,
    DEVICE_COUNT,
    DEVICE_WIDTH,
    ENDLESS,
    FIRST,
    FIRST_DEVICE,
    FIRST_UNIT,
    FREE,
    GPUS,
    HELD,
    LOG,
    LOG_LENGTH,
    LOG_WIDTH,
    MEMORY_TYPE,
    MILLI,
    NODE_COUNT,
    NODE_WIDTH,
    NODES,
    NONE,
    PICK,
    RANK,
    RUNNING,
    SHAPE,
    SINGLE,
    TASK,
    WEIGHT,
    WHOLE,
)
from solver.compiled.refill import is_allowed, lightest
from solver.compiled.state import (
    accept,
    find,
    fits_node,
    start,
    stop,
    takes,
    undo,
    verdict,
    within_limits,
)

MOST_SHARED = 16


@numba.njit
def stop_for(m, t, n):
    """Stops less urgent units on the node until one of the task fits; what is missed then, ENDLESS
    if it never fits.
    """
    mark = m[LOG_LENGTH]
    while not find(m, t, n):
        u = lightest(m, n, m[t + RANK] + 1)
        if u == NONE:
            undo(m, mark)
            return ENDLESS
        stop(m, u)
    missed = np.int64(0)
    for i in range(mark, m[LOG_LENGTH]):
        u = m[m[LOG] + LOG_WIDTH * i]
        missed += m[m[m[u + TASK] + SHAPE] + WEIGHT] + 1_000_000
    return missed


@numba.njit
def keep(m):
    """Accepts what was done if it is better and allowed, or takes it back."""
    is_better = verdict(m) > 0 and is_allowed(m)
    if not is_better:
        undo(m, 0)
    accept(m)
    return is_better


@numba.njit(int64(MEMORY_TYPE, MEMORY_TYPE, MEMORY_TYPE, int64, int64), cache=True)
def preempt(m, order, costs, begin, end):
    """Makes room for the waiting single tasks of ``order[begin:end]`` on the node where least is
    missed; units that give way are started wherever they fit. How many were started.
    """
    placed = 0
    failed = np.int64(NONE)
    for i in range(begin, end):
        t = order[i]
        if m[t + RUNNING] > 0 or m[t + SHAPE] == failed or not within_limits(m, t, 1):
            continue
        best, least = np.int64(NONE), ENDLESS
        n = m[NODES]
        for _ in range(m[NODE_COUNT]):
            mark = m[LOG_LENGTH]
            missed = stop_for(m, t, n)
            undo(m, mark)
            if missed < least:
                best, least = n, missed
            n += NODE_WIDTH
        if best == NONE:
            failed = m[t + SHAPE]
            continue
        stop_for(m, t, best)
        stopped = m[LOG_LENGTH]
        find(m, t, best)
        start(m, m[t + FIRST_UNIT], best)
        for j in range(stopped):
            u = m[m[LOG] + LOG_WIDTH * j]
            place_single(m, m[u + TASK], -1, costs, False)
        if keep(m):
            placed += 1
    return placed


@numba.njit
def on_device(m, n, d, units):
    """Lists the units that hold the device if all of them are shares that may be moved; how many,
    -1 otherwise.
    """
    held = WHOLE - m[d + FREE]
    count = 0
    u = m[n + FIRST]
    while u != NONE:
        s = m[m[u + TASK] + SHAPE]
        if m[s + GPUS] == 1 and m[m[u + HELD]] == d:
            if not m[u + SINGLE] or count == units.shape[0]:
                return -1
            held -= m[s + MILLI]
            units[count] = u
            count += 1
        u = m[u + AFTER]
    return count if held == 0 else -1


@numba.njit
def move_to_used(m, u, left):
    """Starts the unit on the device in use where it leaves least room, not the device ``left``."""
    t = m[u + TASK]
    s = m[t + SHAPE]
    best_node, best, least = np.int64(NONE), np.int64(NONE), ENDLESS
    n = m[NODES]
    for _ in range(m[NODE_COUNT]):
        if fits_node(m, t, s, n):
            d = m[n + FIRST_DEVICE]
            for _ in range(m[n + DEVICE_COUNT]):
                if d != left and m[d + FREE] < least and m[d + FREE] < WHOLE and takes(m, s, d):
                    best_node, best, least = n, d, m[d + FREE]
                d += DEVICE_WIDTH
        n += NODE_WIDTH
    if best == NONE:
        return False
    m[m[PICK]] = best
    start(m, u, best_node)
    return True


@numba.njit(int64(MEMORY_TYPE, int64), cache=True)
def consolidate(m, size):
    """Empties devices that at most ``size`` shares hold, if the objective likes it; how many."""
    units = np.zeros(MOST_SHARED, np.int64)
    emptied = 0
    n = m[NODES]
    for _ in range(m[NODE_COUNT]):
        d = m[n + FIRST_DEVICE]
        for _ in range(m[n + DEVICE_COUNT]):
            count = on_device(m, n, d, units) if m[d + FREE] < WHOLE else -1
            if 0 < count <= size:
                moved = True
                for i in range(count):
                    stop(m, units[i])
                    moved = moved and move_to_used(m, units[i], d)
                if not moved:
                    undo(m, 0)
                if keep(m):
                    emptied += 1
            d += DEVICE_WIDTH
        n += NODE_WIDTH
    return emptied
