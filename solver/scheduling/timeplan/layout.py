"""A question as flat arrays for the compiled draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solver.arrays import Arrays, as_arrays
from solver.compiled.timeprofile import CLASSES, DIMENSIONS, HEAD, NODE_COUNT, NODES, WIDTH
from solver.compiled.timerecords import Ground, Slots
from solver.eligibility import queue_chains, queue_need
from solver.objective import NODE_DOMAIN
from solver.problem import Problem, Queue, Task
from solver.scheduling.timeplan.question import TimeQuestion, Window

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """R running tasks, then T waiting ones in their order."""

    tasks: tuple[Task, ...]
    """[R + T]"""
    memory: Ints
    """nodes, devices and classes, as ``solver.compiled.timeprofile`` reads them"""
    ground: Ground
    slots: Slots
    shape: Ints
    """[R + T] the class of each: its tasks differ at most in names, ``placed`` and durations"""
    unit_start: Ints
    """[T + 1] where the replicas of a waiting task begin in an answer"""
    place_start: Ints
    """[T + 1] and their devices"""


def laid_out(asked: TimeQuestion) -> Layout:
    """The arrays of a question."""
    problem = asked.problem
    arrays = as_arrays(problem)
    row_of = {task.id: row for row, task in enumerate(problem.tasks)}
    running, waiting = asked.running, asked.waiting
    tasks = (*running, *waiting)
    rows = np.array([row_of[task.id] for task in tasks], dtype=np.int64)
    classes: dict[tuple[object, ...], int] = {}
    first: list[Task] = []
    shape_of_class: list[int] = []
    shape = np.zeros(len(tasks), dtype=np.int64)
    for i, task in enumerate(tasks):
        look = int(arrays.shape[rows[i]])
        key = (look, task.queue, task.fewest, task.replicas)
        shape[i] = classes.setdefault(key, len(classes))
        if len(first) < len(classes):
            first.append(task)
            shape_of_class.append(look)
    most = np.array([task.replicas for task in waiting], dtype=np.int64)
    gpus = np.array([task.request.gpus for task in waiting], dtype=np.int64)
    return Layout(
        tasks=tasks,
        memory=_memory(arrays, shape_of_class),
        ground=_ground(arrays, first, shape_of_class, asked.windows),
        slots=_slots(problem, running),
        shape=shape,
        unit_start=_starts(most),
        place_start=_starts(most * gpus),
    )


def _memory(arrays: Arrays, look: Sequence[int]) -> Ints:
    """Head, nodes, devices, rules about devices, classes: each table one row after the other."""
    cluster, shapes, at = arrays.cluster, arrays.shapes, np.array(look, dtype=np.int64)
    start = cluster.device_start
    nodes = np.column_stack(
        (cluster.room, start[:-1], np.diff(start), np.zeros((len(start) - 1, 3)))
    )
    devices = np.column_stack((cluster.device_kind, cluster.device_memory_mib))
    accepts = shapes.device_accepts
    classes = np.column_stack(
        (shapes.need[at], shapes.gpus[at], shapes.milli[at], shapes.memory_mib[at], at)
    )
    first_device = HEAD + nodes.size
    first_rule = first_device + devices.size
    nodes[:, DIMENSIONS] = first_device + devices.shape[1] * start[:-1]
    classes[:, -1] = first_rule + accepts.shape[1] * shapes.device_rule[at]
    head = np.zeros(HEAD, dtype=np.int64)
    head[NODES], head[NODE_COUNT] = HEAD, len(nodes)
    head[CLASSES] = first_rule + accepts.size
    head[WIDTH] = DIMENSIONS + 2 * int(np.diff(start).max(initial=0))
    tables = (head, nodes, devices, accepts, classes)
    return np.concatenate([table.astype(np.int64).ravel() for table in tables])


def _ground(
    arrays: Arrays, first: Sequence[Task], look: Sequence[int], windows: tuple[Window, ...]
) -> Ground:
    problem, cluster, shapes = arrays.problem, arrays.cluster, arrays.shapes
    at = np.array(look, dtype=np.int64)
    chains = queue_chains(problem)
    limits = [(queue, dimension) for queue in problem.queues for dimension in queue.limit]
    group_rule, group = _groups(arrays, first)
    meter_start, meter = _meters(first, chains, limits)
    window_start, window = _windows_of_nodes(problem, windows)
    return Ground(
        node_kind=cluster.kind,
        sizes=np.array([(t.fewest, t.replicas) for t in first], dtype=np.int64).reshape(-1, 2),
        rule=np.column_stack((shapes.node_rule[at], group_rule)),
        node_accepts=np.ascontiguousarray(shapes.node_accepts, dtype=np.uint8),
        group=group,
        window_start=window_start,
        window=window,
        window_time=np.array(
            [(w.start_seconds, w.end_seconds) for w in windows], dtype=np.float64
        ).reshape(-1, 2),
        window_allows=np.array(
            [[allows(w, t, chains) for w in windows] for t in first], dtype=np.uint8
        ).reshape(len(first), len(windows)),
        meter_start=meter_start,
        meter=meter,
        limit=np.array([queue.limit[dimension] for queue, dimension in limits], dtype=np.int64),
    )


def allows(window: Window, task: Task, chains: dict[str, tuple[Queue, ...]]) -> bool:
    """True when the window is one of the task's queue or of one above it."""
    return window.queue is not None and (
        window.queue == task.queue or any(q.id == window.queue for q in chains[task.queue])
    )


def _groups(arrays: Arrays, first: Sequence[Task]) -> tuple[Ints, Ints]:
    """Of each class its row, and for each row which nodes replicas of one task may share."""
    nodes = len(arrays.problem.nodes)
    rows: dict[str | None, Ints] = {}
    for task in first:
        name = task.pack_within
        if name in rows:
            continue
        if name is None:
            rows[name] = np.zeros(nodes, dtype=np.int64)
        elif name == NODE_DOMAIN:
            rows[name] = np.arange(nodes, dtype=np.int64)
        else:
            rows[name] = arrays.cluster.domain_value[arrays.cluster.domains.index(name)]
    number = {name: row for row, name in enumerate(rows)}
    of_class = np.array([number[task.pack_within] for task in first], dtype=np.int64)
    table = np.array(list(rows.values()), dtype=np.int64).reshape(len(rows), nodes)
    return of_class, table


def _meters(
    first: Sequence[Task],
    chains: dict[str, tuple[Queue, ...]],
    limits: list[tuple[Queue, str]],
) -> tuple[Ints, Ints]:
    number = {(queue.id, dimension): m for m, (queue, dimension) in enumerate(limits)}
    starts, rows = [0], []
    for task in first:
        for queue in chains[task.queue]:
            needs = ((d, queue_need(task.request, d)) for d in queue.limit)
            rows += [(number[queue.id, dimension], need) for dimension, need in needs if need]
        starts.append(len(rows))
    return np.array(starts, dtype=np.int64), np.array(rows, dtype=np.int64).reshape(-1, 2)


def _windows_of_nodes(problem: Problem, windows: tuple[Window, ...]) -> tuple[Ints, Ints]:
    of_node: dict[str, list[int]] = {node.id: [] for node in problem.nodes}
    for w, window in enumerate(windows):
        for node in dict.fromkeys(window.nodes):
            of_node[node].append(w)
    lists = list(of_node.values())
    return (
        _starts(np.array([len(one) for one in lists], dtype=np.int64)),
        np.array([w for one in lists for w in one], dtype=np.int64),
    )


def _slots(problem: Problem, running: Sequence[Task]) -> Slots:
    node_number = {node.id: n for n, node in enumerate(problem.nodes)}
    devices = [{device.id: d for d, device in enumerate(node.devices)} for node in problem.nodes]
    task, node, first, held = [], [], [0], []
    for row, one in enumerate(running):
        for slot in sorted(one.placed, key=lambda slot: node_number[slot.node]):
            n = node_number[slot.node]
            task.append(row)
            node.append(n)
            held += [devices[n][device] for device in slot.devices]
            first.append(len(held))
    return Slots(
        task=np.array(task, dtype=np.int64),
        node=np.array(node, dtype=np.int64),
        first=np.array(first, dtype=np.int64),
        device=np.array(held, dtype=np.int64),
    )


def _starts(counts: Ints) -> Ints:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
