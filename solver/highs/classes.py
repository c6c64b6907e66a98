"""Nodes, devices and tasks that the relaxation doesn't tell apart.

Nodes of one class share their prices, so what they hold is simply added up: classes may be merged
at will without making the bound wrong, only weaker. Tasks of a class are equal in all that the
relaxation knows of them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solver.arrays import Arrays, Flags, Ints
from solver.highs.running import Running
from solver.problem import WHOLE_DEVICE_MILLI

MOST_NODE_CLASSES = 60
MOST_DEVICE_KINDS = 16
UNIT_BITS = 30
"""Room is counted in units of which no node has more than 2 to the power of this."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """N nodes in C classes, D devices in J classes, each of them within one class of nodes.

    What fixed tasks hold is taken off. Cordoned nodes belong to no class: they take nothing new,
    and what runs there competes with nobody.
    """

    room: Ints
    """[N, K] in units, rounded up."""
    free_milli: Ints
    """[D] 0 for a lost device."""
    node_class: Ints
    """[N] -1 for cordoned nodes."""
    size: Ints
    """[C] nodes in the class."""
    kinds: Flags
    """[C, node kinds] the kinds that nodes of the class are of."""
    unit: Ints
    """[K] room is counted in units of 2 to the power of this."""
    total: Ints
    """[C, K] room of all nodes of the class together, each rounded up to units."""
    largest: Ints
    """[C, K] room of the largest node, in units."""
    whole: Ints
    """[N] how many devices of the node are free to take something and hold nothing fixed."""
    device_class: Ints
    """[D] -1 for devices that take nothing new."""
    at: Ints
    """[J] the class of nodes."""
    device_kind: Ints
    """[J, device kinds] > 0: the kinds that devices of the class are of."""
    memory_mib: Ints
    """[J] memory of the largest device."""
    free: Ints
    """[J, 1001] how many devices have so much milli free; 1000 are whole devices."""
    free_memory_mib: list[int]
    """[J] free memory of those that aren't whole, together."""
    most_whole: Ints
    """[J] whole devices on the node that has most."""


def numbered(rows: npt.NDArray[np.generic]) -> tuple[Ints, Ints]:
    """The number of each row among the distinct ones, and the first row of each number."""
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, first, number = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return number.reshape(-1).astype(np.int64), first.astype(np.int64)


def classify(arrays: Arrays, runs: Running) -> Cluster:
    """The classes of nodes and devices, at most about ``MOST_NODE_CLASSES`` of the former."""
    cluster = arrays.cluster
    room, unit = _rooms(arrays, runs)
    free_milli, free_memory = _free_devices(arrays, runs)
    node_of = np.repeat(np.arange(len(room)), np.diff(cluster.device_start))
    kind = _device_kinds(arrays)
    is_whole = free_milli == WHOLE_DEVICE_MILLI
    usable = free_milli > 0
    kinds = int(kind.max(initial=-1)) + 1
    counts = np.zeros((len(room), 2 * kinds), dtype=np.int64)
    np.add.at(counts, (node_of[is_whole], kind[is_whole]), 1)
    # Devices that are partly taken tell classes apart, their number doesn't.
    part = usable & ~is_whole
    counts[node_of[part], kinds + kind[part]] = 1
    schedulable = np.array([node.schedulable for node in arrays.problem.nodes], dtype=np.bool_)
    node_class, size = _node_classes(cluster.kind, counts, room, schedulable)
    inside = np.flatnonzero(node_class >= 0)
    total = np.zeros((size, room.shape[1]), dtype=np.int64)
    largest = np.zeros_like(total)
    np.add.at(total, node_class[inside], room[inside])
    np.maximum.at(largest, node_class[inside], room[inside])
    has_kind = np.zeros((size, int(cluster.kind.max(initial=-1)) + 1), dtype=np.bool_)
    has_kind[node_class[inside], cluster.kind[inside]] = True

    usable &= node_class[node_of] >= 0
    device_class = np.full(len(kind), -1, dtype=np.int64)
    chosen = np.flatnonzero(usable)
    number, first = numbered(np.column_stack([node_class[node_of[chosen]], kind[chosen]]))
    device_class[chosen] = number
    classes = len(first)
    free = np.zeros((classes, WHOLE_DEVICE_MILLI + 1), dtype=np.int64)
    np.add.at(free, (number, free_milli[chosen]), 1)
    memory = np.zeros(classes, dtype=np.int64)
    np.maximum.at(memory, number, cluster.device_memory_mib[chosen])
    device_kind = np.zeros((classes, int(cluster.device_kind.max(initial=-1)) + 1), dtype=np.int64)
    device_kind[number, cluster.device_kind[chosen]] = 1
    per_node = np.zeros((len(room), classes), dtype=np.int64)
    whole = chosen[is_whole[chosen]]
    np.add.at(per_node, (node_of[whole], device_class[whole]), 1)
    left_memory = [0] * classes
    for device in chosen[~is_whole[chosen]].tolist():
        left_memory[device_class[device]] += int(free_memory[device])
    return Cluster(
        room=room,
        free_milli=free_milli,
        node_class=node_class,
        size=np.bincount(node_class[inside], minlength=size).astype(np.int64),
        kinds=has_kind,
        unit=unit,
        total=total,
        largest=largest,
        whole=per_node.sum(axis=1),
        device_class=device_class,
        at=node_class[node_of[chosen[first]]] if classes else np.zeros(0, np.int64),
        device_kind=device_kind,
        memory_mib=memory,
        free=free,
        free_memory_mib=left_memory,
        most_whole=per_node.max(axis=0, initial=0),
    )


def _rooms(arrays: Arrays, runs: Running) -> tuple[Ints, Ints]:
    """[N, K] in units, and the units: room without what is fixed. Where more is in use than there
    is, all of that may stay (model.md, E).
    """
    room = arrays.cluster.room
    exact = {}
    for node, need in runs.need.items():
        fixed = runs.fixed_need.get(node, [0] * len(need))
        exact[node] = [
            max(int(r), n) - f for r, n, f in zip(room[node].tolist(), need, fixed, strict=True)
        ]
    largest = room.max(axis=0, initial=0).tolist()
    for row in exact.values():
        largest = [max(pair) for pair in zip(largest, row, strict=True)]
    unit = [max(0, most.bit_length() - UNIT_BITS) for most in largest]
    scaled = -(-room >> np.array(unit, dtype=np.int64))
    for node, row in exact.items():
        scaled[node] = [-(-r >> u) for r, u in zip(row, unit, strict=True)]
    return scaled, np.array(unit, dtype=np.int64)


def _free_devices(arrays: Arrays, runs: Running) -> tuple[Ints, Ints]:
    """[D] milli that isn't fixed, 0 for a lost device, and [D] memory that isn't."""
    cluster, nodes = arrays.cluster, arrays.problem.nodes
    healthy = np.array([d.healthy for node in nodes for d in node.devices], dtype=np.bool_)
    milli = np.where(healthy, WHOLE_DEVICE_MILLI, 0).astype(np.int64)
    memory = cluster.device_memory_mib.copy()
    for device, held in runs.fixed_milli.items():
        milli[device] = max(0, int(milli[device]) - held)
        memory[device] = max(0, int(memory[device]) - runs.fixed_memory_mib[device])
    return milli, memory


def _device_kinds(arrays: Arrays) -> Ints:
    """[D] devices of one kind are equal in model, health and memory, as far as there are few."""
    cluster = arrays.cluster
    kind = cluster.device_kind
    if not len(kind):
        return kind
    number, first = numbered(np.column_stack([kind, cluster.device_memory_mib]))
    if len(first) <= MOST_DEVICE_KINDS:
        return number
    coarse = np.frexp(cluster.device_memory_mib.astype(np.float64))[1]
    number, first = numbered(np.column_stack([kind, coarse]))
    return number if len(first) <= 2 * MOST_DEVICE_KINDS else kind


def _node_classes(kind: Ints, devices: Ints, room: Ints, schedulable: Flags) -> tuple[Ints, int]:
    """The finest of a few ways to tell nodes apart that makes few enough classes."""
    fraction, exponent = np.frexp(room.astype(np.float64))
    eighths = exponent * 8 + np.floor(fraction * 16).astype(np.int64)
    keys = (
        [kind, devices, room],
        [kind, devices, eighths],
        [kind, devices, exponent],
        [devices, exponent],
        [devices],
        [np.minimum(devices, 1)],
        [np.zeros_like(kind)],
    )
    inside = np.flatnonzero(schedulable)
    node_class = np.full(len(kind), -1, dtype=np.int64)
    if not len(inside):
        return node_class, 0
    number, first = np.zeros(len(inside), np.int64), np.zeros(1, np.int64)
    for key in keys:
        number, first = numbered(np.column_stack(key)[inside])
        if len(first) <= MOST_NODE_CLASSES:
            break
    node_class[inside] = number
    return node_class, len(first)
