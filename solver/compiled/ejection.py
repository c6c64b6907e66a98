"""Running replicas that move: to let an arriving one in, or to strand less (model.md, 8).

What may be tried for one arrival is counted in looks at nodes, never by a clock: equal histories
give equal answers.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from solver.compiled.online import (
    CLUSTER,
    DEMAND,
    DIMENSIONS,
    HUGE,
    KNOWN,
    NO_NODE,
    SHAPES,
    assess,
    best_node,
    least_score,
    refresh,
)

NO_UNIT = -1
MOST_ON_NODE = 64
"""So many units of a node are looked at."""
MOST_SETS = 256
"""So many sets of units are noted that would make room ..."""
MOST_TRIED = 24
"""... and so many of them are tried out."""
MOST_LOOKS, LOOKS_AT_LEAST = 1000, 2
"""Looks at nodes to make room, and again to tidy. Asking for a shape counts as so many at least."""


class Units(NamedTuple):
    """Replicas that may move: of one-replica tasks with at most one GPU, separate from nobody."""

    node: npt.NDArray[np.int64]
    """[U] NO_NODE for a number that is free."""
    device: npt.NDArray[np.int64]
    """[U] NO_UNIT without a GPU"""
    shape: npt.NDArray[np.int64]
    """[U]"""
    next: npt.NDArray[np.int64]
    """[U] the next unit of the same node, NO_UNIT at the end."""
    first: npt.NDArray[np.int64]
    """[N] the first unit of each node."""
    counter: npt.NDArray[np.int64]
    """[2] how many numbers were given out; where tidying goes on."""


_I1, _I2 = types.int64[::1], types.int64[:, ::1]
UNITS = types.NamedUniTuple(_I1, 6, Units)


@numba.njit(types.void(UNITS, types.int64, types.int64), cache=True)
def link(units, u, n):
    """Unit u is on node n now."""
    units.node[u] = n
    units.next[u] = units.first[n]
    units.first[n] = u


@numba.njit(types.void(UNITS, types.int64), cache=True)
def unlink(units, u):
    """Unit u is on no node."""
    n = units.node[u]
    if units.first[n] == u:
        units.first[n] = units.next[u]
    else:
        at = units.first[n]
        while units.next[at] != u:
            at = units.next[at]
        units.next[at] = units.next[u]
    units.node[u] = NO_NODE


@numba.njit(cache=True)
def _count(cluster, shapes, s, n, d, sign):
    for k in range(DIMENSIONS):
        cluster.free[n, k] -= sign * shapes.need[s, k]
    if shapes.size[s, 0] > 0:
        cluster.milli[n, d] -= sign * shapes.size[s, 1]
        cluster.memory[n, d] -= sign * shapes.size[s, 2]


@numba.njit(cache=True)
def _lift(cluster, shapes, demand, units, u):
    n = units.node[u]
    _count(cluster, shapes, units.shape[u], n, units.device[u], -1)
    unlink(units, u)
    assess(cluster, demand, n)


@numba.njit(cache=True)
def _lay(cluster, shapes, demand, units, u, n, d):
    units.device[u] = d
    _count(cluster, shapes, units.shape[u], n, d, 1)
    link(units, u, n)
    assess(cluster, demand, n)


@numba.njit(cache=True)
def _lay_back(cluster, shapes, units, u, n, d, version, stranded):
    """Undoes a lift: what was known about the node holds again."""
    units.device[u] = d
    _count(cluster, shapes, units.shape[u], n, d, 1)
    link(units, u, n)
    cluster.version[n], cluster.stranded[n] = version, stranded


@numba.njit(
    types.int64(
        CLUSTER, SHAPES, DEMAND, KNOWN, UNITS, types.int64, types.int64, types.float64, _I2
    ),
    cache=True,
)
def tidy(cluster, shapes, demand, known, units, candidates, most, least_gain, moves):
    """Moves at most so many units where that strands less by ``least_gain`` at least; how many.

    Looks at so many candidates, and goes on from there the next time. A row of ``moves`` is: unit,
    node and device before, node and device after.
    """
    count = looks = 0
    total = units.counter[0]
    for _ in range(min(candidates, total)):
        if count == most or looks > MOST_LOOKS:
            break
        u = units.counter[1] % total
        units.counter[1] = u + 1
        n = units.node[u]
        if n == NO_NODE:
            continue
        d, version, stranded = units.device[u], cluster.version[n], cluster.stranded[n]
        _lift(cluster, shapes, demand, units, u)
        row, looked = refresh(cluster, shapes, demand, known, units.shape[u])
        looks += looked
        to = best_node(cluster, known, row)
        gain = stranded - cluster.stranded[n] - (known.score[row, to] if to >= 0 else HUGE)
        if gain < least_gain:
            _lay_back(cluster, shapes, units, u, n, d, version, stranded)
            continue
        _lay(cluster, shapes, demand, units, u, to, known.device[row, to])
        moves[count] = u, n, d, to, units.device[u]
        count += 1
    return count


@numba.njit(cache=True)
def _fits_without(cluster, shapes, units, s, n, one, two):
    """Whether the shape would fit on the node without these units."""
    first, second = units.shape[one], units.shape[two] if two >= 0 else -1
    for k in range(DIMENSIONS):
        free = cluster.free[n, k] + shapes.need[first, k]
        if second >= 0:
            free += shapes.need[second, k]
        if shapes.need[s, k] > 0 and shapes.need[s, k] > free:
            return False
    devices = shapes.size[s, 0]
    if devices == 0:
        return True
    count = 0
    for d in range(cluster.milli.shape[1]):
        milli, memory = cluster.milli[n, d], cluster.memory[n, d]
        if units.device[one] == d:
            milli += shapes.size[first, 1]
            memory += shapes.size[first, 2]
        if second >= 0 and units.device[two] == d:
            milli += shapes.size[second, 1]
            memory += shapes.size[second, 2]
        if (
            milli >= shapes.size[s, 1]
            and (shapes.size[s, 2] == 0 or memory >= shapes.size[s, 2])
            and shapes.device_accepts[shapes.rule[s, 1], cluster.kind[n, d]]
        ):
            count += 1
            if count == devices:
                return True
    return False


@numba.njit(cache=True)
def _find_sets(cluster, shapes, units, homeless, s, most, sets):
    """Fills ``sets`` with (GPU milli to move, unit, unit or NO_UNIT); how many there are.

    Units of a shape that has no other node to go to are ``homeless``.
    """
    here = np.empty(MOST_ON_NODE, np.int64)
    found = 0
    for n in range(cluster.counter[0]):
        if not shapes.node_accepts[shapes.rule[s, 0], n]:
            continue
        count = 0
        u = units.first[n]
        while u != NO_UNIT and count < MOST_ON_NODE:
            if not homeless[units.shape[u]]:
                here[count] = u
                count += 1
            u = units.next[u]
        single = False
        for i in range(count):
            one = here[i]
            if found < MOST_SETS and _fits_without(cluster, shapes, units, s, n, one, NO_UNIT):
                sets[found] = shapes.size[units.shape[one], 1], one, NO_UNIT
                found += 1
                single = True
        if single or most < 2:
            continue
        for i in range(count):
            for j in range(i):
                one, two = here[i], here[j]
                if found < MOST_SETS and _fits_without(cluster, shapes, units, s, n, one, two):
                    milli = shapes.size[units.shape[one], 1] + shapes.size[units.shape[two], 1]
                    sets[found] = 2000 + milli, one, two
                    found += 1
    return found


@numba.njit(cache=True)
def _try(cluster, shapes, demand, known, units, s, chosen, moves, undo):
    """Moves a set of units away with the shape in their place, and back where that is to be undone.

    How much more is stranded, HUGE where one of them has nowhere to go; and looks at nodes.
    """
    count = 1 if chosen[2] == NO_UNIT else 2
    n = units.node[chosen[1]]
    version, stranded = cluster.version[n], cluster.stranded[n]
    for i in range(count):
        u = chosen[1 + i]
        moves[i] = u, n, units.device[u], NO_NODE, NO_UNIT
        _lift(cluster, shapes, demand, units, u)
    # The place is kept for the shape: nobody may go back to this node.
    looks, cost, done = 0, 0.0, 0
    versions, strandeds = np.empty(2, np.int64), np.empty(2)
    for i in range(count):
        row, looked = refresh(cluster, shapes, demand, known, units.shape[chosen[1 + i]])
        looks += looked
        score = known.score[row, n]
        known.score[row, n] = HUGE
        to = best_node(cluster, known, row)
        known.score[row, n] = score
        if to == NO_NODE:
            cost = HUGE
            break
        cost += known.score[row, to]
        versions[i], strandeds[i] = cluster.version[to], cluster.stranded[to]
        moves[i, 3], moves[i, 4] = to, known.device[row, to]
        _lay(cluster, shapes, demand, units, chosen[1 + i], to, known.device[row, to])
        done += 1
    if cost < HUGE:
        row, looked = refresh(cluster, shapes, demand, known, s)
        cost += cluster.stranded[n] - stranded + known.score[row, n]
    if not undo:
        return cost, looks
    for i in range(done - 1, -1, -1):
        to = moves[i, 3]
        unlink(units, moves[i, 0])
        _count(cluster, shapes, units.shape[moves[i, 0]], to, moves[i, 4], -1)
        cluster.version[to], cluster.stranded[to] = versions[i], strandeds[i]
    for i in range(count):
        _lay_back(cluster, shapes, units, moves[i, 0], n, moves[i, 2], version, stranded)
    return cost, looks


@numba.njit(
    types.int64(CLUSTER, SHAPES, DEMAND, KNOWN, UNITS, types.int64, types.int64, _I2), cache=True
)
def make_room(cluster, shapes, demand, known, units, s, most, moves):
    """Moves one or two units so that the shape fits where they were; how many, 0 if that can't be.

    Of the sets of units that are tried the one is moved that leaves the least stranded.
    """
    looks = 0
    homeless = np.zeros(len(shapes.need), np.uint8)
    is_met = np.zeros(len(shapes.need), np.uint8)
    for u in range(units.counter[0]):
        if units.node[u] == NO_NODE or is_met[units.shape[u]]:
            continue
        is_met[units.shape[u]] = 1
        if looks > MOST_LOOKS:
            homeless[units.shape[u]] = 1
            continue
        row, looked = refresh(cluster, shapes, demand, known, units.shape[u])
        looks += max(looked, LOOKS_AT_LEAST)
        homeless[units.shape[u]] = least_score(cluster, known, row) >= HUGE
    sets = np.empty((MOST_SETS, 3), np.int64)
    found = _find_sets(cluster, shapes, units, homeless, s, most, sets)
    best, best_cost = -1, HUGE
    trial = np.empty((2, 5), np.int64)
    for i in range(min(found, MOST_TRIED)):
        if looks > MOST_LOOKS:
            break
        for j in range(i + 1, found):  # the next best goes to place i
            if sets[j, 0] < sets[i, 0]:
                for k in range(3):
                    sets[i, k], sets[j, k] = sets[j, k], sets[i, k]
        cost, looked = _try(cluster, shapes, demand, known, units, s, sets[i], trial, True)
        looks += looked
        if cost < best_cost:
            best, best_cost = i, cost
    if best < 0:
        return 0
    _try(cluster, shapes, demand, known, units, s, sets[best], moves, False)
    return 1 if sets[best, 2] == NO_UNIT else 2
