"""Where one arriving replica goes: the node and device on which it strands least (model.md, 8).

Compiled when it is first imported and kept on disk, for exactly the types that are declared here:
nothing compiles while a task waits. All quantities are whole numbers below 2**53, also where they
are held as floats, so sums are exact in any order and every machine decides alike.
"""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

DIMENSIONS = 4
WHOLE = 1000
PEERS = 16
STRANDED_WEIGHT = 4.0
"""What no task like one of the demand can use counts so many times what only lacks CPU or memory
for all of it."""
NO_NODE = -1
NO_ROW = -1
HUGE = 1e18


class Cluster(NamedTuple):
    """What is free now. N nodes with at most G devices each; rows beyond ``count`` are spare."""

    free: npt.NDArray[np.int64]
    """[N, K] of the node, in the order of ``NODE_DIMENSIONS``."""
    milli: npt.NDArray[np.int64]
    """[N, G] of each device; negative where there is no device."""
    memory: npt.NDArray[np.int64]
    """[N, G] MiB of each device"""
    kind: npt.NDArray[np.int64]
    """[N, G] devices of one kind are accepted by the same rules (model, health)."""
    likeness: npt.NDArray[np.int64]
    """[N] nodes with one number are accepted by the same rules (labels, domains, cordon)."""
    wiring: npt.NDArray[np.int64]
    """[N] index into ``pair_cost``"""
    pair_cost: npt.NDArray[np.int64]
    """[wirings, PEERS, PEERS]"""
    version: npt.NDArray[np.int64]
    """[N] another number after every change; no two states of a node share one."""
    stranded: npt.NDArray[np.float64]
    """[N] the node's expected stranding (model.md, I1)."""
    counter: npt.NDArray[np.int64]
    """[2] number of nodes; the last version given out."""


class Shapes(NamedTuple):
    """What tasks ask for. Row s is one shape."""

    need: npt.NDArray[np.int64]
    """[S, K]"""
    size: npt.NDArray[np.int64]
    """[S, 3] devices, milli of each, MiB on each."""
    rule: npt.NDArray[np.int64]
    """[S, 2] rows of ``node_accepts`` and ``device_accepts``."""
    node_accepts: npt.NDArray[np.uint8]
    """[rules, N]"""
    device_accepts: npt.NDArray[np.uint8]
    """[rules, device kinds]"""


class Demand(NamedTuple):
    """The tasks that are expected: M shapes with GPUs, by how often they came."""

    weight: npt.NDArray[np.float64]
    """[M] whole numbers"""
    milli: npt.NDArray[np.float64]
    """[M]"""
    memory: npt.NDArray[np.float64]
    """[M]"""
    block: npt.NDArray[np.float64]
    """[M] milli of all devices of a task with several; 0 for the others."""
    need: npt.NDArray[np.float64]
    """[K, M]"""
    rate: npt.NDArray[np.float64]
    """[K, M] GPU milli for each unit of what the node has; 0 where none is needed."""
    boundless: npt.NDArray[np.float64]
    """[K, M] huge where none is needed, else 0."""
    asked: npt.NDArray[np.uint8]
    """[K] whether any of them needs this dimension."""
    node_accepts: npt.NDArray[np.float64]
    """[N, M] 1 or 0"""
    device_accepts: npt.NDArray[np.float64]
    """[device kinds, M] 1 or 0"""
    rest: npt.NDArray[np.float64]
    """[1001] what stays unused of so many free milli of one device (model.md, I2)."""


class Known(NamedTuple):
    """What was found out about nodes, for R shapes; it holds while the node's version does."""

    version: npt.NDArray[np.int64]
    """[R, N]"""
    score: npt.NDArray[np.float64]
    """[R, N] how much more is stranded with the shape there; huge where it doesn't fit."""
    device: npt.NDArray[np.int64]
    """[R, N] the best device for a shape with one GPU."""
    row: npt.NDArray[np.int64]
    """[S] the row of a shape, NO_ROW for one that isn't remembered."""
    shape: npt.NDArray[np.int64]
    """[R] the shape of a row, NO_ROW for a row not yet used."""
    asked: npt.NDArray[np.int64]
    """[R + 1] when each row was last asked for; at the end, how often any was."""


_I1, _I2, _I3 = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_F1, _F2 = types.float64[::1], types.float64[:, ::1]
_B1, _B2 = types.uint8[::1], types.uint8[:, ::1]
CLUSTER = types.NamedTuple((_I2, _I2, _I2, _I2, _I1, _I1, _I3, _I1, _F1, _I1), Cluster)
SHAPES = types.NamedTuple((_I2, _I2, _I2, _B2, _B2), Shapes)
DEMAND = types.NamedTuple((_F1, _F1, _F1, _F1, _F2, _F2, _F2, _B1, _F2, _F2, _F1), Demand)
KNOWN = types.NamedTuple((_I2, _F2, _I2, _I1, _I1, _I1), Known)

_exact = {"reassoc", "nsz"}
"""Sums of whole numbers may be taken in any order: the result is the same."""


@numba.njit(cache=True, fastmath=_exact)
def _add_usable(free, memory, milli, memories, accepts, usable):
    """Adds to each expected shape what it could use of a device with so much free."""
    for m in range(len(usable)):
        fits = free >= milli[m] and memory >= memories[m]
        usable[m] += free * accepts[m] if fits else 0.0


@numba.njit(cache=True, fastmath=_exact)
def _take_away(free, memory, milli, memories, accepts, usable):
    """The inverse of ``_add_usable``."""
    for m in range(len(usable)):
        fits = free >= milli[m] and memory >= memories[m]
        usable[m] -= free * accepts[m] if fits else 0.0


@numba.njit(cache=True, fastmath=_exact)
def _limit(demand, n, left, limit):
    """The GPU milli for which the node has the rest too, -1 where not even for one task."""
    accepts = demand.node_accepts[n]
    for m in range(len(limit)):
        limit[m] = HUGE if accepts[m] > 0 else -1.0
    for k in range(DIMENSIONS):
        if demand.asked[k]:
            have = float(left[k])
            need, rate, boundless = demand.need[k], demand.rate[k], demand.boundless[k]
            for m in range(len(limit)):
                most = np.floor(have * rate[m]) + boundless[m]
                limit[m] = min(limit[m], most) if have >= need[m] else -1.0


@numba.njit(cache=True, fastmath=_exact)
def _stranded(total, usable, limit, weight, block):
    """(I1) without its second part, for one node."""
    stranded = 0.0
    for m in range(len(usable)):
        used = usable[m] if usable[m] >= block[m] and limit[m] >= 0 else 0.0
        fed = min(used, limit[m]) if limit[m] >= 0 else 0.0
        stranded += weight[m] * (STRANDED_WEIGHT * (total - used) + (used - fed))
    return stranded


@numba.njit(cache=True, fastmath=_exact)
def _stranded_after(
    total,
    usable,
    limit,
    weight,
    block,
    milli,
    memories,
    accepts,
    free,
    memory,
    rest,
    memory_rest,
):
    """The same with one device's free milli and memory lowered to these rests."""
    stranded = 0.0
    for m in range(len(usable)):
        before = free if free >= milli[m] and memory >= memories[m] else 0.0
        after = rest if rest >= milli[m] and memory_rest >= memories[m] else 0.0
        now = usable[m] + (after - before) * accepts[m]
        used = now if now >= block[m] and limit[m] >= 0 else 0.0
        fed = min(used, limit[m]) if limit[m] >= 0 else 0.0
        stranded += weight[m] * (STRANDED_WEIGHT * (total - used) + (used - fed))
    return stranded


@numba.njit(cache=True)
def _survey(cluster, demand, n, usable):
    """Fills ``usable`` for a node; its free milli, and the second part of (I1)."""
    total, rests = 0, 0.0
    for m in range(len(usable)):
        usable[m] = 0.0
    for d in range(cluster.milli.shape[1]):
        free = cluster.milli[n, d]
        if free > 0:
            total += free
            rests += demand.rest[free]
            accepts = demand.device_accepts[cluster.kind[n, d]]
            memory = float(cluster.memory[n, d])
            _add_usable(float(free), memory, demand.milli, demand.memory, accepts, usable)
    return total, rests


@numba.njit(types.void(CLUSTER, DEMAND, types.int64), cache=True)
def assess(cluster, demand, n):
    """Computes a node's stranding anew, after a change there."""
    usable, limit = np.empty(len(demand.weight)), np.empty(len(demand.weight))
    total, rests = _survey(cluster, demand, n, usable)
    _limit(demand, n, cluster.free[n], limit)
    cluster.stranded[n] = rests + _stranded(
        float(total), usable, limit, demand.weight, demand.block
    )
    cluster.counter[1] += 1
    cluster.version[n] = cluster.counter[1]


@numba.njit(types.void(CLUSTER, DEMAND), cache=True)
def assess_all(cluster, demand):
    """Computes every node's stranding anew, after a change of the demand."""
    for n in range(cluster.counter[0]):
        assess(cluster, demand, n)


@numba.njit(cache=True)
def _takes(cluster, shapes, s, n, d):
    """Whether the device has room for the shape and is one that it takes."""
    memory = shapes.size[s, 2]
    return (
        cluster.milli[n, d] >= shapes.size[s, 1]
        and (memory == 0 or cluster.memory[n, d] >= memory)
        and shapes.device_accepts[shapes.rule[s, 1], cluster.kind[n, d]] > 0
    )


@numba.njit(cache=True)
def _fits_node(cluster, shapes, s, n):
    if not shapes.node_accepts[shapes.rule[s, 0], n]:
        return False
    for k in range(DIMENSIONS):
        if shapes.need[s, k] > 0 and shapes.need[s, k] > cluster.free[n, k]:
            return False
    return True


@numba.njit(cache=True)
def _candidates(cluster, shapes, s, n, found):
    """Fills ``found`` with the devices to choose from; how many they are, -1 where too few.

    For a shape with one device, of those that are free as much and of one kind only the first; for
    one with several, as many as it needs.
    """
    devices, milli, memory = shapes.size[s, 0], shapes.size[s, 1], shapes.size[s, 2]
    rule = shapes.rule[s, 1]
    count = 0
    for d in range(cluster.milli.shape[1]):
        free = cluster.milli[n, d]
        if free < milli:
            continue
        kind, free_memory = cluster.kind[n, d], cluster.memory[n, d]
        if (memory > 0 and free_memory < memory) or shapes.device_accepts[rule, kind] == 0:
            continue
        if devices == 1:
            is_new = True
            for i in range(count):
                e = found[i]
                if (
                    cluster.milli[n, e] == free
                    and cluster.memory[n, e] == free_memory
                    and cluster.kind[n, e] == kind
                ):
                    is_new = False
                    break
            if not is_new:
                continue
        found[count] = d
        count += 1
        if count == devices and devices > 1:
            break
    return count if count >= min(devices, 1) and (devices <= 1 or count == devices) else -1


@numba.njit(cache=True)
def _best_device(cluster, shapes, demand, s, n, scratch):
    """What the shape strands on the node, and on which device the least; HUGE without room."""
    usable, limit, left, found = scratch
    if not _fits_node(cluster, shapes, s, n):
        return HUGE, 0
    devices, milli, memory_need = shapes.size[s, 0], shapes.size[s, 1], shapes.size[s, 2]
    count = 0
    if devices > 0:
        count = _candidates(cluster, shapes, s, n, found)
        if count < 0:
            return HUGE, 0
    total, rests = _survey(cluster, demand, n, usable)
    for k in range(DIMENSIONS):
        left[k] = cluster.free[n, k] - shapes.need[s, k]
    _limit(demand, n, left, limit)
    weight, block = demand.weight, demand.block
    rests -= cluster.stranded[n]
    if devices != 1:
        for i in range(count):
            d = found[i]
            free, memory = cluster.milli[n, d], cluster.memory[n, d]
            accepts = demand.device_accepts[cluster.kind[n, d]]
            rests -= demand.rest[free]
            total -= free
            _take_away(float(free), float(memory), demand.milli, demand.memory, accepts, usable)
        return rests + _stranded(float(total), usable, limit, weight, block), 0
    best, best_device = HUGE, 0
    for i in range(count):
        d = found[i]
        free, memory = cluster.milli[n, d], cluster.memory[n, d]
        score = rests - demand.rest[free] + demand.rest[free - milli]
        score += _stranded_after(
            float(total - milli),
            usable,
            limit,
            weight,
            block,
            demand.milli,
            demand.memory,
            demand.device_accepts[cluster.kind[n, d]],
            float(free),
            float(memory),
            float(free - milli),
            float(memory - memory_need),
        )
        if score < best:
            best, best_device = score, d
    return best, best_device


@numba.njit(cache=True)
def _are_alike(cluster, n, other):
    """Whether the two nodes are in the same state, so that what holds for one does for both."""
    if cluster.likeness[n] != cluster.likeness[other]:
        return False
    for k in range(DIMENSIONS):
        if cluster.free[n, k] != cluster.free[other, k]:
            return False
    for d in range(cluster.milli.shape[1]):
        if (
            cluster.milli[n, d] != cluster.milli[other, d]
            or cluster.memory[n, d] != cluster.memory[other, d]
            or cluster.kind[n, d] != cluster.kind[other, d]
        ):
            return False
    return True


@numba.njit(cache=True)
def row_of(known, s):
    """The row of a shape; where it has none, the one that was asked for longest ago."""
    row = known.row[s]
    if row == NO_ROW:
        row = 0
        for other in range(len(known.shape)):
            if known.asked[other] < known.asked[row]:
                row = other
        if known.shape[row] != NO_ROW:
            known.row[known.shape[row]] = NO_ROW
        known.row[s], known.shape[row] = row, s
        known.version[row] = 0
    known.asked[-1] += 1
    known.asked[row] = known.asked[-1]
    return row


@numba.njit(cache=True)
def refresh(cluster, shapes, demand, known, s):
    """Looks again at the nodes that changed since the shape was last asked for; its row, and how
    many nodes those were.
    """
    row = row_of(known, s)
    scratch = (
        np.empty(len(demand.weight)),
        np.empty(len(demand.weight)),
        np.empty(DIMENSIONS, np.int64),
        np.empty(cluster.milli.shape[1], np.int64),
    )
    last, looks = NO_NODE, 0
    for n in range(cluster.counter[0]):
        if known.version[row, n] == cluster.version[n]:
            continue
        known.version[row, n] = cluster.version[n]
        looks += 1
        if last >= 0 and _are_alike(cluster, n, last):
            known.score[row, n] = known.score[row, last]
            known.device[row, n] = known.device[row, last]
            continue
        last = n
        score, device = _best_device(cluster, shapes, demand, s, n, scratch)
        known.score[row, n] = score
        known.device[row, n] = device
    return row, looks


@numba.njit(cache=True, fastmath={"reassoc", "nnan", "nsz"})
def least_score(cluster, known, row):
    """The least score of any node; HUGE if none has room."""
    least = HUGE
    for n in range(cluster.counter[0]):
        least = min(least, known.score[row, n])
    return least


@numba.njit(cache=True)
def best_node(cluster, known, row):
    """The node with the least score; of equals the one with less CPU left; NO_NODE if none fits."""
    least, best = least_score(cluster, known, row), NO_NODE
    if least < HUGE:
        for n in range(cluster.counter[0]):
            if known.score[row, n] == least and (
                best < 0 or cluster.free[n, 0] < cluster.free[best, 0]
            ):
                best = n
    return best


@numba.njit(types.UniTuple(types.int64, 2)(CLUSTER, SHAPES, DEMAND, KNOWN, types.int64), cache=True)
def find(cluster, shapes, demand, known, s):
    """The best node for shape s and, for one GPU, its device; NO_NODE where none has room."""
    row, _ = refresh(cluster, shapes, demand, known, s)
    n = best_node(cluster, known, row)
    return n, known.device[row, max(n, 0)]


@numba.njit(types.void(CLUSTER, SHAPES, types.int64, types.int64, _I1), cache=True)
def choose_devices(cluster, shapes, s, n, chosen):
    """Fills ``chosen`` with devices of the node for a shape with several: the best connected ones
    on nodes of up to PEERS devices (model.md, O4), the first ones on others.
    """
    count = len(chosen)
    usable = np.empty(cluster.milli.shape[1], np.int64)
    found = 0
    for d in range(cluster.milli.shape[1]):
        if _takes(cluster, shapes, s, n, d):
            usable[found] = d
            found += 1
    cost = cluster.pair_cost[cluster.wiring[n]]
    pick = np.empty(count, np.int64)
    for i in range(count):
        pick[i], chosen[i] = i, usable[i]
    if found == count or (cluster.milli.shape[1] > PEERS and usable[found - 1] >= PEERS):
        return
    best = np.int64(1) << 60
    while True:
        total = 0
        for i in range(count):
            for j in range(i):
                total += cost[usable[pick[i]], usable[pick[j]]]
        if total < best:
            best = total
            for i in range(count):
                chosen[i] = usable[pick[i]]
        i = count - 1
        while i >= 0 and pick[i] == found - count + i:
            i -= 1
        if i < 0:
            return
        pick[i] += 1
        for j in range(i + 1, count):
            pick[j] = pick[j - 1] + 1


@numba.njit(
    types.void(CLUSTER, SHAPES, DEMAND, types.int64, types.int64, _I1, types.int64), cache=True
)
def count_in(cluster, shapes, demand, s, n, devices, sign):
    """Takes room on the node and its devices for one replica (sign 1), or gives it back (-1)."""
    for k in range(DIMENSIONS):
        cluster.free[n, k] -= sign * shapes.need[s, k]
    for d in devices:
        cluster.milli[n, d] -= sign * shapes.size[s, 1]
        cluster.memory[n, d] -= sign * shapes.size[s, 2]
    assess(cluster, demand, n)
