"""A first answer: task after task, each where it fits best, gangs whole or not at all."""

import numba
import numpy as np
from numba import int64, void

from solver.compiled.places import (
    APART_COUNT,
    BY_VALUE,
    CLASS,
    CPU,
    DEVICE_COUNT,
    DEVICE_WIDTH,
    DIRTY_LENGTH,
    DOMAIN_COUNT,
    DOMAIN_WIDTH,
    DOMAINS,
    ENDLESS,
    FEWEST,
    FIRST_DEVICE,
    FIRST_UNIT,
    FREE,
    GPUS,
    INDEX,
    LOCALITY,
    LOG_LENGTH,
    MEMORY_TYPE,
    MILLI,
    NEED,
    NODE,
    NODE_COUNT,
    NODE_WIDTH,
    NODES,
    NONE,
    PACKED,
    PICK,
    REPLICAS,
    ROOM,
    ROOMS,
    RUNNING,
    SHAPE,
    SPARE,
    SPREAD,
    SPREAD_COST,
    TASK,
    UNIT_WIDTH,
    UNITS,
    USED,
    VALUE_COUNT,
    VALUE_OF,
    VALUE_START,
    WHOLE,
)
from solver.compiled.state import (
    accept,
    add_gain,
    find,
    has_log_room,
    put,
    start,
    undo,
    within_limits,
)


@numba.njit
def respread(m, t):
    """Counts anew what the gang's spread over domains costs."""
    if m[LOCALITY] < 0 or m[t + REPLICAS] < 2:
        return
    cost = spread_cost(m, t)
    add_gain(m, m[LOCALITY], m[t + SPREAD_COST] - cost)
    m[t + SPREAD_COST] = cost


@numba.njit
def spread_cost(m, t):
    """Values used beyond the first, over all domains; a node without one is a value of its own."""
    if m[t + RUNNING] < 2:
        return 0
    cost = 0
    seen = m[SPARE]
    for i in range(m[DOMAIN_COUNT]):
        domain = m[DOMAINS] + i * DOMAIN_WIDTH
        for sign in range(2):  # mark and count, then wipe
            u = m[t + FIRST_UNIT]
            for _ in range(m[t + REPLICAS]):
                if m[u + NODE] != NONE:
                    index = m[m[u + NODE] + INDEX]
                    value = m[m[domain + VALUE_OF] + index]
                    if value < 0:
                        value = m[NODE_COUNT] + index
                    if sign == 0 and m[seen + value] == 0:
                        m[seen + value] = 1
                        cost += 1
                    elif sign == 1:
                        m[seen + value] = 0
                u += UNIT_WIDTH
        cost -= 1
    return cost


@numba.njit
def cost_on(m, t, n):
    """What the task spoils on the node, ENDLESS where it has no room: new devices opened, room left
    beside it, CPU and devices left out of proportion, whole devices. PICK holds the devices.
    """
    if not find(m, t, n):
        return ENDLESS
    s = m[t + SHAPE]
    if m[s + GPUS] == 0:
        return m[n + DEVICE_COUNT] * 1_000_000_000 + min(m[n + ROOM] // 1000, 999_999_999)
    opened = 0
    left = 0
    for i in range(m[s + GPUS]):
        free = m[m[m[PICK] + i] + FREE]
        left += free - m[s + MILLI]
        if free == WHOLE:
            opened += 1
    free_milli = np.int64(0)
    d = m[n + FIRST_DEVICE]
    for _ in range(m[n + DEVICE_COUNT]):
        free_milli += max(0, m[d + FREE])
        d += DEVICE_WIDTH
    lean = np.int64(0)
    if m[n + CPU] > 0:
        cpu = 1000 * (m[n + ROOM] - m[s + NEED]) // m[n + CPU]
        gpu = (free_milli - m[s + GPUS] * m[s + MILLI]) // m[n + DEVICE_COUNT]
        lean = abs(cpu - gpu)
    whole = m[n + DEVICE_COUNT] - m[n + USED]
    return ((opened * 1_000_000 + left * 100) * 1000 + lean) * 100 + min(whole, 99)


@numba.njit
def place_single(m, t, kind, costs, is_known):
    """Starts the one unit of the task where it spoils least, on nodes of the class ``kind`` if that
    isn't negative. ``costs`` are those of an equal task if they are known.
    """
    n = m[NODES]
    best = 0
    for i in range(m[NODE_COUNT]):
        if not is_known:
            costs[i] = cost_on(m, t, n) if kind < 0 or kind == m[n + CLASS] else ENDLESS
        if costs[i] < costs[best]:
            best = i
        n += NODE_WIDTH
    if costs[best] == ENDLESS:
        return False
    n = m[NODES] + best * NODE_WIDTH
    find(m, t, n)
    start(m, m[t + FIRST_UNIT], n)
    costs[best] = cost_on(m, t, n)
    return True


@numba.njit
def gang_node(m, t, nodes, count, counts):
    """Of the ``count`` nodes listed from ``nodes`` on, the one for the gang's next unit.

    Evenly over SPREAD first; then the emptiest, because more of the gang fits there.
    """
    best, best_cost = np.int64(NONE), ENDLESS
    for i in range(count):
        n = m[nodes + i]
        if not find(m, t, n):
            continue
        behind = 0
        if m[t + SPREAD] != NONE:
            behind = m[counts + m[m[m[t + SPREAD] + VALUE_OF] + m[n + INDEX]]]
        cost = behind * 1_000_000 + 1000 * (m[n + USED] - m[n + DEVICE_COUNT])
        if m[n + CPU] > 0:
            cost -= min(999, m[n + ROOM] * 999 // m[n + CPU])
        if cost < best_cost:
            best, best_cost = n, cost
    return best


@numba.njit
def place_gang_on(m, t, nodes, count):
    """Starts as many units as fit on these nodes, at least up to the fewest, or none."""
    mark = m[LOG_LENGTH]
    counts = m[SPARE]
    u = m[t + FIRST_UNIT]
    n = np.int64(NONE)
    for _ in range(m[t + REPLICAS]):
        if m[u + NODE] == NONE:
            if not within_limits(m, t, 1):
                break
            if n == NONE or m[t + SPREAD] != NONE or not find(m, t, n):
                n = gang_node(m, t, nodes, count, counts)
                if n == NONE:
                    break
                find(m, t, n)
            start(m, u, n)
            if m[t + SPREAD] != NONE:
                m[counts + m[m[m[t + SPREAD] + VALUE_OF] + m[n + INDEX]]] += 1
        u += UNIT_WIDTH
    if m[t + SPREAD] != NONE:
        while m[LOG_LENGTH] > mark and not is_even(m, t, nodes, count, counts):
            last = m[t + FIRST_UNIT] + (m[t + RUNNING] - 1) * UNIT_WIDTH
            m[counts + m[m[m[t + SPREAD] + VALUE_OF] + m[m[last + NODE] + INDEX]]] -= 1
            undo(m, m[LOG_LENGTH] - 1)
        for i in range(m[m[t + SPREAD] + VALUE_COUNT]):
            m[counts + i] = 0
    if m[LOG_LENGTH] > mark and m[t + RUNNING] >= m[t + FEWEST]:
        return True
    undo(m, mark)
    return False


@numba.njit
def is_even(m, t, nodes, count, counts):
    """(model.md, C8) over these nodes; ``counts`` has the units of each value."""
    values = m[m[t + SPREAD] + VALUE_OF]
    fullest = 0
    for value in range(m[m[t + SPREAD] + VALUE_COUNT]):
        fullest = max(fullest, m[counts + value])
    for i in range(count):
        value = m[values + m[m[nodes + i] + INDEX]]
        if value >= 0 and m[counts + value] < min(m[m[t + ROOMS] + value], fullest - 1):
            return False
    return True


@numba.njit
def place_in(m, t, domain):
    """Starts the gang within one value of the domain: the first that has room for all of it, or the
    one that has room for most.
    """
    mark = m[LOG_LENGTH]
    most, best = np.int64(0), np.int64(-1)
    for value in range(m[domain + VALUE_COUNT]):
        if not place_in_value(m, t, domain, value):
            continue
        if m[t + RUNNING] == m[t + REPLICAS]:
            return True
        if m[t + RUNNING] > most:
            most, best = m[t + RUNNING], value
        undo(m, mark)
    return best >= 0 and place_in_value(m, t, domain, best)


@numba.njit
def place_in_value(m, t, domain, value):
    begin = m[m[domain + VALUE_START] + value]
    count = m[m[domain + VALUE_START] + value + 1] - begin
    return place_gang_on(m, t, m[domain + BY_VALUE] + begin, count)


@numba.njit
def place_gang(m, t):
    """Starts the gang whole, or as much as fits if that is enough; in one value if it can."""
    placed = False
    if m[t + PACKED] != NONE:
        placed = place_in(m, t, m[t + PACKED])
    elif m[t + SPREAD] != NONE:
        domain = m[t + SPREAD]
        count = m[m[domain + VALUE_START] + m[domain + VALUE_COUNT]]
        placed = place_gang_on(m, t, m[domain + BY_VALUE], count)
    else:
        for i in range(m[DOMAIN_COUNT] - 1):
            placed = placed or place_in(m, t, m[DOMAINS] + i * DOMAIN_WIDTH)
        if not placed:
            nodes = m[DOMAINS] + (m[DOMAIN_COUNT] - 1) * DOMAIN_WIDTH
            placed = place_gang_on(m, t, m[nodes + BY_VALUE], m[NODE_COUNT])
    if placed:
        respread(m, t)
    return placed


@numba.njit
def most_room(m):
    """The most milli free on any device, and the most devices of a node that nobody uses."""
    most_milli, most_devices = np.int64(0), np.int64(0)
    n = m[NODES]
    for _ in range(m[NODE_COUNT]):
        most_devices = max(most_devices, m[n + DEVICE_COUNT] - m[n + USED])
        d = m[n + FIRST_DEVICE]
        for _ in range(m[n + DEVICE_COUNT]):
            most_milli = max(most_milli, m[d + FREE])
            d += DEVICE_WIDTH
        n += NODE_WIDTH
    return most_milli, most_devices


@numba.njit(int64(MEMORY_TYPE, MEMORY_TYPE, MEMORY_TYPE, MEMORY_TYPE, int64, int64), cache=True)
def construct(m, order, kinds, costs, begin, end):
    """Starts what fits of ``order[begin:end]``, waiting tasks, in this order; how many it started.

    ``kinds`` are classes of nodes that single tasks are to go to, -1 for any; ``costs`` is [N]
    scratch.
    """
    placed = 0
    known = np.int64(NONE)
    known_kind = np.int64(-1)
    # Room only shrinks here: what was too large for any device once is too large from then on.
    most_milli, most_devices = ENDLESS, ENDLESS
    for i in range(begin, end):
        t = order[i]
        if m[t + RUNNING] > 0 or not within_limits(m, t, m[t + FEWEST]):
            continue
        if m[t + REPLICAS] > 1:
            known = np.int64(NONE)
            if has_log_room(m, m[t + REPLICAS], m[t + REPLICAS] * m[m[t + SHAPE] + GPUS]):
                placed += place_gang(m, t)
        elif m[t + REPLICAS] == 1:
            s = m[t + SHAPE]
            gpus = m[s + GPUS]
            if gpus > 0 and (m[s + MILLI] > most_milli or (gpus > 1 and gpus > most_devices)):
                continue
            is_plain = m[t + APART_COUNT] == 0
            is_known = is_plain and known == s and known_kind == kinds[i]
            if place_single(m, t, kinds[i], costs, is_known):
                placed += 1
            elif not is_known and gpus > 0:
                most_milli, most_devices = most_room(m)
            known = s if is_plain else np.int64(NONE)
            known_kind = kinds[i]
        if m[LOG_LENGTH] > 0 or m[DIRTY_LENGTH] > 0:
            accept(m)
    return placed


@numba.njit(void(MEMORY_TYPE, MEMORY_TYPE), cache=True)
def seat(m, where):
    """Starts each unit on the node that ``where`` names for it (NONE for none), with the devices
    that it is listed with, whether there is room or not.
    """
    for i in range(where.shape[0]):
        if where[i] != NONE:
            u = m[UNITS] + i * UNIT_WIDTH
            put(m, u, where[i])
            if m[m[u + TASK] + REPLICAS] > 1 and m[m[u + TASK] + RUNNING] > 1:
                respread(m, m[u + TASK])
    accept(m)
