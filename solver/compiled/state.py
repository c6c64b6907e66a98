"""The two moves of a search, each the other's inverse: a unit starts, a unit stops.

A unit is one replica. Whatever ``start`` and ``stop`` do is written to a log, and ``undo`` takes it
back. Values are kept in the objective's order, larger is better, as gain since the last ``accept``.
"""

import numba
import numpy as np

from solver.compiled.places import (
    AFTER,
    APART,
    APART_COUNT,
    BALANCE,
    BEFORE,
    CHOICE,
    CPU,
    DEVICE_COUNT,
    DEVICE_KIND,
    DEVICE_RULE,
    DEVICE_WATTS,
    DEVICE_WIDTH,
    DIMENSIONS,
    DIRTY,
    DIRTY_LENGTH,
    DISRUPTION,
    ENDLESS,
    EVICT_COST,
    FIRST,
    FIRST_DEVICE,
    FIRST_UNIT,
    FRAGMENTATION,
    FREE,
    FREE_MEMORY,
    GAIN,
    GPUS,
    HELD,
    HOME,
    HOME_HELD,
    IS_DIRTY,
    KIND,
    LIMIT_COUNT,
    LIMITS,
    LIVE,
    LOADS,
    LOCALITY,
    LOG,
    LOG_DEVICE,
    LOG_DEVICE_SIZE,
    LOG_DEVICES,
    LOG_LENGTH,
    LOG_SIZE,
    LOG_WIDTH,
    MEMORY,
    MILLI,
    MOST_LOAD,
    MOVABLE,
    MOVE_COST,
    NEED,
    NODE,
    NODE_RULE,
    NONE,
    PACK,
    PAIR_COST,
    PEERS,
    PICK,
    PLACED,
    POOL,
    POOL_LENGTH,
    POOL_PLACE,
    POWER,
    RANDOM,
    RANK,
    REPLICAS,
    ROOM,
    RUNNING,
    SHAPE,
    SINGLE,
    TASK,
    TOP_LOAD,
    TOUCHED,
    UNIT_WIDTH,
    USED,
    VALUE,
    WATTS,
    WEIGHT,
    WHOLE,
)


@numba.njit
def random_below(m, bound):
    """An integer in [0, bound): xorshift64*, Vigna, ACM TOMS 42 (2016)."""
    x = np.uint64(m[RANDOM])
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    m[RANDOM] = np.int64(x)
    mixed = (x * np.uint64(2685821657736338717)) >> np.uint64(33)
    return np.int64((mixed * np.uint64(bound)) >> np.uint64(31))


@numba.njit
def add_gain(m, entry, amount):
    if entry < 0 or amount == 0:
        return
    m[m[GAIN] + entry] += amount
    if m[m[IS_DIRTY] + entry] == 0:
        m[m[IS_DIRTY] + entry] = 1
        m[m[DIRTY] + m[DIRTY_LENGTH]] = entry
        m[DIRTY_LENGTH] += 1


@numba.njit
def verdict(m):
    """1 if what was done since the last ``accept`` is better, -1 if worse, 0 if as good."""
    first = ENDLESS
    sign = 0
    for i in range(m[DIRTY_LENGTH]):
        entry = m[m[DIRTY] + i]
        gain = m[m[GAIN] + entry]
        if entry < first and gain != 0:
            first = entry
            sign = 1 if gain > 0 else -1
    return sign


@numba.njit
def accept(m):
    for i in range(m[DIRTY_LENGTH]):
        entry = m[m[DIRTY] + i]
        m[m[VALUE] + entry] += m[m[GAIN] + entry]
        m[m[GAIN] + entry] = 0
        m[m[IS_DIRTY] + entry] = 0
    m[DIRTY_LENGTH] = 0
    m[LOG_LENGTH] = 0
    m[LOG_DEVICES] = 0


@numba.njit
def load_of(m, n):
    """(model.md, O5)"""
    load = np.int64(0)
    if m[n + DEVICE_COUNT] > 0:
        load = (100 * m[n + USED] + m[n + DEVICE_COUNT] - 1) // m[n + DEVICE_COUNT]
    elif m[n + CPU] > 0:
        load = 10 * ((10 * (m[n + CPU] - m[n + ROOM]) + m[n + CPU] - 1) // m[n + CPU])
    return min(load, MOST_LOAD)


@numba.njit
def shift_load(m, old, new):
    if old == new:
        return
    loads = m[LOADS]
    m[loads + old] -= 1
    m[loads + new] += 1
    top = m[TOP_LOAD]
    now = max(top, new)
    while now > 0 and m[loads + now] == 0:
        now -= 1
    m[TOP_LOAD] = now
    add_gain(m, m[BALANCE], top - now)


@numba.njit
def gpus_of(m, u):
    return m[m[m[u + TASK] + SHAPE] + GPUS]


@numba.njit
def is_home(m, u):
    """Whether the unit is exactly where it ran before."""
    if m[u + HOME] != m[u + NODE]:
        return False
    held, home, gpus = m[u + HELD], m[u + HOME_HELD], gpus_of(m, u)
    for i in range(gpus):
        found = False
        for j in range(gpus):
            if m[home + i] == m[held + j]:
                found = True
        if not found:
            return False
    return True


@numba.njit
def disruption(m, u):
    """What the place of a unit that ran before costs (model.md, O2)."""
    if m[u + NODE] == NONE:
        return m[m[u + TASK] + EVICT_COST]
    return 0 if is_home(m, u) else m[m[u + TASK] + MOVE_COST]


@numba.njit
def held_cost(m, u, n):
    """What holding its devices together costs (model.md, O4)."""
    gpus = gpus_of(m, u)
    costs = m[n + PAIR_COST]
    total = np.int64(0)
    if gpus < 2 or costs == NONE:
        return total
    held = m[u + HELD]
    base = m[n + FIRST_DEVICE]
    for i in range(gpus):
        row = costs + (m[held + i] - base) // DEVICE_WIDTH * PEERS
        for j in range(i + 1, gpus):
            total += m[row + (m[held + j] - base) // DEVICE_WIDTH]
    return total


@numba.njit
def shift(m, u, n, sign):
    """Counts the unit in (1) or out (-1) on node n with the devices that it holds."""
    t = m[u + TASK]
    s = m[t + SHAPE]
    old_load = load_of(m, n)
    for k in range(DIMENSIONS):
        m[n + ROOM + k] -= sign * m[s + NEED + k]
    wasted = np.int64(0)
    watts = np.int64(0)
    held = m[u + HELD]
    for i in range(m[s + GPUS]):
        d = m[held + i]
        was = m[d + FREE]
        now = was - sign * m[s + MILLI]
        m[d + FREE] = now
        m[d + FREE_MEMORY] -= sign * m[s + MEMORY]
        if now < WHOLE:
            wasted += max(0, now)
        if was < WHOLE:
            wasted -= max(0, was)
        if was == WHOLE and now < WHOLE:
            m[n + USED] += 1
            watts += m[d + DEVICE_WATTS]
        elif was < WHOLE and now == WHOLE:
            m[n + USED] -= 1
            watts -= m[d + DEVICE_WATTS]
    m[n + LIVE] += sign
    opened = np.int64(0)
    if sign > 0 and m[n + LIVE] == 1:
        opened = np.int64(1)
    elif sign < 0 and m[n + LIVE] == 0:
        opened = np.int64(-1)
    limits = m[t + LIMITS]
    for i in range(m[t + LIMIT_COUNT]):
        m[m[limits + 2 * i]] -= sign * m[limits + 2 * i + 1]
    m[t + RUNNING] += sign
    if m[PLACED] >= 0:
        add_gain(m, m[PLACED] + m[t + RANK], sign * m[s + WEIGHT])
    if m[BALANCE] >= 0:
        shift_load(m, old_load, load_of(m, n))
    add_gain(m, m[FRAGMENTATION], -wasted)
    add_gain(m, m[PACK], -opened)
    add_gain(m, m[POWER], -watts - opened * m[n + WATTS])
    if m[LOCALITY] >= 0:
        add_gain(m, m[LOCALITY], -sign * held_cost(m, u, n))


@numba.njit
def put(m, u, n):
    """Starts the unit on node n with the devices that it holds, unlogged."""
    cost = disruption(m, u) if m[u + HOME] != NONE else np.int64(0)
    m[u + NODE] = n
    shift(m, u, n, 1)
    if m[u + MOVABLE]:
        head = m[n + FIRST]
        m[u + AFTER] = head
        m[u + BEFORE] = NONE
        if head != NONE:
            m[head + BEFORE] = u
        m[n + FIRST] = u
    if m[u + HOME] != NONE:
        add_gain(m, m[DISRUPTION], cost - disruption(m, u))
        if is_home(m, u):
            m[TOUCHED] -= 1
    place = m[u + POOL_PLACE]
    if place >= 0:
        m[POOL_LENGTH] -= 1
        last = m[m[POOL] + m[POOL_LENGTH]]
        m[m[POOL] + place] = last
        m[last + POOL_PLACE] = place
        m[u + POOL_PLACE] = -1


@numba.njit
def take(m, u):
    """Stops the unit, unlogged; its devices stay listed."""
    n = m[u + NODE]
    cost = np.int64(0)
    if m[u + HOME] != NONE:
        cost = disruption(m, u)
        if is_home(m, u):
            m[TOUCHED] += 1
    shift(m, u, n, -1)
    m[u + NODE] = NONE
    if m[u + MOVABLE]:
        before, after = m[u + BEFORE], m[u + AFTER]
        if before != NONE:
            m[before + AFTER] = after
        else:
            m[n + FIRST] = after
        if after != NONE:
            m[after + BEFORE] = before
    if m[u + HOME] != NONE:
        add_gain(m, m[DISRUPTION], cost - disruption(m, u))
    if m[u + SINGLE]:
        m[u + POOL_PLACE] = m[POOL_LENGTH]
        m[m[POOL] + m[POOL_LENGTH]] = u
        m[POOL_LENGTH] += 1


@numba.njit
def start(m, u, n):
    """Starts the unit on node n with the devices that ``find`` picked."""
    held, pick = m[u + HELD], m[PICK]
    for i in range(gpus_of(m, u)):
        m[held + i] = m[pick + i]
    put(m, u, n)
    entry = m[LOG] + LOG_WIDTH * m[LOG_LENGTH]
    m[entry] = u
    m[entry + 1] = NONE
    m[LOG_LENGTH] += 1


@numba.njit
def stop(m, u):
    entry = m[LOG] + LOG_WIDTH * m[LOG_LENGTH]
    m[entry] = u
    m[entry + 1] = m[u + NODE]
    m[entry + 2] = m[LOG_DEVICES]
    place, held = m[LOG_DEVICE] + m[LOG_DEVICES], m[u + HELD]
    gpus = gpus_of(m, u)
    for i in range(gpus):
        m[place + i] = m[held + i]
    m[LOG_DEVICES] += gpus
    m[LOG_LENGTH] += 1
    take(m, u)


@numba.njit
def undo(m, mark):
    """Takes back what was done since the log was ``mark`` long."""
    while m[LOG_LENGTH] > mark:
        m[LOG_LENGTH] -= 1
        entry = m[LOG] + LOG_WIDTH * m[LOG_LENGTH]
        u = m[entry]
        if m[entry + 1] == NONE:
            take(m, u)
            continue
        m[LOG_DEVICES] = m[entry + 2]
        place, held = m[LOG_DEVICE] + m[entry + 2], m[u + HELD]
        for i in range(gpus_of(m, u)):
            m[held + i] = m[place + i]
        put(m, u, m[entry + 1])


@numba.njit
def has_log_room(m, units, devices):
    """Whether so many more entries, of so many devices in all, fit the log."""
    return m[LOG_LENGTH] + units < m[LOG_SIZE] and m[LOG_DEVICES] + devices < m[LOG_DEVICE_SIZE]


@numba.njit
def fits_node(m, t, s, n):
    """Whether the node accepts the task and has the room; devices and queues aside."""
    return m[m[s + NODE_RULE] + m[n + KIND]] != 0 and has_room(m, t, s, n)


@numba.njit
def has_room(m, t, s, n):
    """Whether the node has the room, and runs nothing that the task is separate from; it may not
    accept the task anew.
    """
    for k in range(DIMENSIONS):
        need = m[s + NEED + k]
        if need > 0 and need > m[n + ROOM + k]:
            return False
    apart = m[t + APART]
    for i in range(m[t + APART_COUNT]):
        other = m[apart + i]
        u = m[other + FIRST_UNIT]
        for _ in range(m[other + REPLICAS] if m[other + RUNNING] > 0 else 0):
            if m[u + NODE] == n:
                return False
            u += UNIT_WIDTH
    return True


@numba.njit
def takes(m, s, d):
    """Whether the device accepts the shape and has room for it."""
    return m[m[s + DEVICE_RULE] + m[d + DEVICE_KIND]] != 0 and holds(m, s, d)


@numba.njit
def holds(m, s, d):
    """Whether the device has room for the shape, accepted anew or not."""
    return m[d + FREE] >= m[s + MILLI] and (
        m[s + MEMORY] == 0 or m[d + FREE_MEMORY] >= m[s + MEMORY]
    )


@numba.njit
def find(m, t, n):
    """Whether node n has room for one more unit of the task now; its devices are put in PICK.

    Alone or as a share it gets the fullest device that holds it, several get those linked best.
    Queues are not looked at.
    """
    s = m[t + SHAPE]
    gpus = m[s + GPUS]
    if m[n + DEVICE_COUNT] < gpus or not fits_node(m, t, s, n):
        return False
    if gpus == 0:
        return True
    begin = m[n + FIRST_DEVICE]
    end = begin + m[n + DEVICE_COUNT] * DEVICE_WIDTH
    if gpus == 1:
        best = NONE
        for d in range(begin, end, DEVICE_WIDTH):
            if takes(m, s, d) and (
                best == NONE
                or m[d + FREE] < m[best + FREE]
                or (m[d + FREE] == m[best + FREE] and m[d + FREE_MEMORY] < m[best + FREE_MEMORY])
            ):
                best = d
        m[m[PICK]] = best
        return best != NONE
    count = np.int64(0)
    for d in range(begin, end, DEVICE_WIDTH):
        if takes(m, s, d):
            m[m[CHOICE] + count] = d
            count += 1
    if count < gpus:
        return False
    link(m, n, count, gpus)
    return True


@numba.njit
def link(m, n, count, gpus):
    """Picks ``gpus`` of the ``count`` devices in CHOICE: from each one on, always the one that is
    linked best to those picked; of all such sets the cheapest.
    """
    pick, choice, costs = m[PICK], m[CHOICE], m[n + PAIR_COST]
    for i in range(gpus):
        m[pick + i] = m[choice + i]
    if count == gpus or costs == NONE or m[LOCALITY] < 0:
        return
    base = m[n + FIRST_DEVICE]
    least = ENDLESS
    chosen = np.empty(PEERS, np.int64)
    for seed in range(count):
        chosen[0] = m[choice + seed]
        total = np.int64(0)
        for size in range(1, gpus):
            best, best_cost = np.int64(NONE), ENDLESS
            for i in range(count):
                d = m[choice + i]
                cost = np.int64(0)
                for j in range(size):
                    if chosen[j] == d:
                        cost = ENDLESS
                        break
                    column = (chosen[j] - base) // DEVICE_WIDTH
                    cost += m[costs + (d - base) // DEVICE_WIDTH * PEERS + column]
                if cost < best_cost:
                    best, best_cost = d, cost
            chosen[size] = best
            total += best_cost
        if total < least:
            least = total
            for i in range(gpus):
                m[pick + i] = chosen[i]
        if least == 0:
            return


@numba.njit
def within_limits(m, t, units):
    """Whether the queues of the task have room for so many more units."""
    limits = m[t + LIMITS]
    for i in range(m[t + LIMIT_COUNT]):
        if m[m[limits + 2 * i]] < units * m[limits + 2 * i + 1]:
            return False
    return True
