"""A genetic search over orders of a project's tasks, each decoded and pushed right and left.

After Valls, Ballestin and Quintanilla, A hybrid genetic algorithm for the resource-constrained
project scheduling problem, EJOR 185 (2008), with a population that changes one by one.
"""

import numba
import numpy as np
from numba import int64, types

from solver.compiled.decoding import (
    INTS,
    NETWORK,
    TABLE,
    place_earliest,
    push_left,
    push_right,
    scratch_for,
)
from solver.compiled.places import MEMORY_TYPE
from solver.compiled.state import random_below

RULES = types.Tuple((INTS, INTS, INTS))
"""``heads``, ``dues`` and ``weights`` of the tasks. Dues may be missed, at a price above all else;
without any weight it's the makespan that counts."""
MOST_SWAPPED_PERCENT = 30
BLUR_PERCENT = 30


@numba.njit
def worth(network, rules, starts):
    """How late the tasks are, all in all, and the objective."""
    late, value, final = np.int64(0), np.int64(0), np.int64(0)
    is_weighted = len(rules[2]) > 0
    for j in range(len(starts)):
        end = starts[j] + network[0][j]
        late += max(np.int64(0), end - rules[1][j])
        final = max(final, end)
        if is_weighted:
            value += rules[2][j] * end
    return late, (value if is_weighted else final)


@numba.njit
def decode(network, mirror, rules, scratch, order, starts, dues, kept):
    """Fills ``starts`` from an order: serial generation, then right and left justification. Gives
    its lateness and value. ``dues`` and ``kept`` are scratch.
    """
    durations, n = network[0], len(order)
    place_earliest(network, scratch, order, rules[0], scratch[2][0])
    final = np.int64(0)
    for j in range(n):
        starts[j] = scratch[2][0][j] - durations[j]
        final = max(final, scratch[2][0][j])
    late, value = worth(network, rules, starts)
    kept[:] = starts
    for j in range(n):
        dues[j] = min(final, max(rules[1][j], starts[j] + durations[j]))
    push_right(mirror, scratch, dues, starts)
    push_left(network, scratch, rules[0], starts)
    late_then, value_then = worth(network, rules, starts)
    if late < late_then or (late == late_then and value < value_then):
        starts[:] = kept  # to push may cost something where other ends than the last one count
        return late, value
    return late_then, value_then


@numba.njit
def draw_order(m, mirror, rules, keys):
    """An order drawn at random: by the length of what is behind a task, its duration blurred, or by
    what waiting for it costs.
    """
    durations, behind_from, behind = mirror[0], mirror[1], mirror[2]
    by_weight = len(rules[2]) > 0 and random_below(m, 4) > 0
    for j in range(len(durations) - 1, -1, -1):
        blur = 1.0 + (random_below(m, 2 * BLUR_PERCENT + 1) - BLUR_PERCENT) / 100.0
        longest = 0.0
        for i in range(behind_from[j], behind_from[j + 1]):
            longest = min(longest, keys[behind[i]])
        if by_weight:
            own = -blur * rules[2][j] / max(np.int64(1), durations[j])
            keys[j] = min(own, longest)
        else:
            keys[j] = longest - blur * durations[j]
    return np.argsort(keys, kind="mergesort")


@numba.njit
def cross(m, mother, father, child, taken):
    """A stretch of the mother's order stays together; what is ahead of it there is in the father's
    order, and so is what is behind it.
    """
    n = len(mother)
    length = 1 + random_below(m, n)
    first = random_below(m, n - length + 1)
    for place in range(n):
        part = np.int64(0)
        if place >= first:
            part = np.int64(1) if place < first + length else np.int64(2)
        taken[mother[place]] = part
    ahead, rest = np.int64(0), first + length
    for place in range(n):
        j = father[place]
        if taken[j] == 0:
            child[ahead] = j
            ahead += 1
        elif taken[j] == 2:
            child[rest] = j
            rest += 1
    child[first : first + length] = mother[first : first + length]


@numba.njit
def mutate(m, mirror, order):
    """Some neighbours in the order change places, where neither waits for the other."""
    behind_from, behind = mirror[1], mirror[2]
    percent = random_below(m, MOST_SWAPPED_PERCENT)  # 5, alone, gets stuck on small projects
    for place in range(len(order) - 1):
        if random_below(m, 100) >= percent:
            continue
        a, b = order[place], order[place + 1]
        is_bound = False
        for i in range(behind_from[a], behind_from[a + 1]):
            is_bound = is_bound or behind[i] == b
        if not is_bound:
            order[place], order[place + 1] = b, a


@numba.njit
def is_better(values, a, b):
    """True if member a is better than member b."""
    return values[a, 0] < values[b, 0] or (
        values[a, 0] == values[b, 0] and values[a, 1] < values[b, 1]
    )


@numba.njit
def differences(one, other):
    """How many tasks start at another time."""
    count = 0
    for j in range(len(one)):
        count += one[j] != other[j]
    return count


@numba.njit(int64(MEMORY_TYPE, NETWORK, NETWORK, RULES, TABLE, TABLE, int64, int64), cache=True)
def populate(m, network, mirror, rules, starts, values, first, last):
    """Draws members [first, last) of a population: their starts [P, n] and values [P, 2], lateness
    and objective. Gives the number of the best of them.
    """
    n = starts.shape[1]
    scratch = scratch_for(network)
    keys = np.empty(n, dtype=np.float64)
    room = np.empty((2, n), dtype=np.int64)
    best = first
    for member in range(first, last):
        order = draw_order(m, mirror, rules, keys)
        values[member] = decode(
            network, mirror, rules, scratch, order, starts[member], room[0], room[1]
        )
        if is_better(values, member, best):
            best = member
    return best


@numba.njit(int64(MEMORY_TYPE, NETWORK, NETWORK, RULES, TABLE, TABLE, int64), cache=True)
def breed(m, network, mirror, rules, starts, values, count):
    """Breeds ``count`` children; each takes the place of the parent that it's more like, unless it
    is worse or the same (crowding: Mahfoud, Niching methods for genetic algorithms, 1995): where
    the worst had to go instead, all were alike after a few thousand children. The last row is the
    child's. Gives how many were taken in.
    """
    size, n = starts.shape[0] - 1, starts.shape[1]
    scratch = scratch_for(network)
    room = np.empty((4, n), dtype=np.int64)
    orders = np.empty((size, n), dtype=np.int64)
    for member in range(size):
        orders[member] = np.argsort(starts[member], kind="mergesort")
    taken_in = 0
    for _ in range(count):
        child = room[0]
        mother, father = random_below(m, size), random_below(m, size)
        cross(m, orders[mother], orders[father], child, room[1])
        mutate(m, mirror, child)
        values[size] = decode(
            network, mirror, rules, scratch, child, starts[size], room[2], room[3]
        )
        to_mother = differences(starts[mother], starts[size])
        to_father = differences(starts[father], starts[size])
        rival = mother if to_mother <= to_father else father
        if min(to_mother, to_father) == 0 or is_better(values, rival, size):
            continue
        starts[rival] = starts[size]
        values[rival] = values[size]
        orders[rival] = np.argsort(starts[rival], kind="mergesort")
        taken_in += 1
    return taken_in
