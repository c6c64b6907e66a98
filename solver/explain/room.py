"""Who holds what where the plan ends, and the room that is left, as arrays.

Sizes: T tasks, E entries (a task on a node), X holds (a task on a device).
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np

from solver.arrays import Flags, Ints
from solver.eligibility import queue_chains, queue_need
from solver.explain.ground import Ground
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI, Queue, Slot, Task

MOST_HELD = 2**62
"""No sum of what is held grows beyond this: quantities are cut so that 64 bits hold it."""


class QueueDimension(NamedTuple):
    """A limit that a task counts against."""

    queue: str
    dimension: str
    limit: int


class Running:
    """The replicas of the final state, one entry for each task and node it runs on."""

    def __init__(self, ground: Ground, answer: Mapping[str, Sequence[Slot]]) -> None:
        self.problem = problem = ground.problem
        self._answer = answer
        self.tasks = problem.tasks
        self.index = {task.id: i for i, task in enumerate(problem.tasks)}
        node_index = {node.id: i for i, node in enumerate(problem.nodes)}
        offset = [
            {device.id: int(first) + i for i, device in enumerate(node.devices)}
            for node, first in zip(problem.nodes, ground.start, strict=False)
        ]
        largest = MOST_HELD // max(1, sum(map(len, answer.values())))
        of_task, of_node, count, held = [], [], [], []
        holds: list[tuple[int, int, int, int]] = []
        self.start = [0]
        for t, task in enumerate(problem.tasks):
            request, slots = task.request, answer.get(task.id, ())
            here, devices = _counted(slots, node_index, offset) if slots else ({}, {})
            entry_of = {}
            for node, replicas in here.items():
                entry_of[node] = len(of_task)
                of_task.append(t)
                of_node.append(node)
                count.append(replicas)
                held.append([min(largest, getattr(request, k)) * replicas for k in NODE_DIMENSIONS])
            for node, device in sorted(devices, key=lambda key: entry_of[key[0]]):
                replicas = devices[node, device]
                memory_mib = min(largest, request.gpu_memory_mib) * replicas
                milli = request.gpu_milli * replicas
                holds.append((entry_of[node], device, milli, memory_mib))
            self.start.append(len(of_task))
        self.task = _ints(of_task)
        """[E]"""
        self.node = _ints(of_node)
        """[E]"""
        self.count = _ints(count)
        """[E] replicas"""
        self.held: Ints = np.ascontiguousarray(_table(held, len(NODE_DIMENSIONS)).T)
        """[K, E]"""
        table: Ints = np.array(list(zip(*holds, strict=True)), dtype=np.int64).reshape(
            4, len(holds)
        )
        self.hold_entry, self.hold_device, self.hold_milli, self.hold_memory_mib = table
        """[X] each; sorted by entry"""
        entries = np.arange(len(of_task) + 1)
        self._first_hold: list[int] = np.searchsorted(self.hold_entry, entries).tolist()
        self.replicas: Ints = np.zeros(len(self.tasks), dtype=np.int64)
        np.add.at(self.replicas, self.task, self.count)
        self._limits = _limits(queue_chains(problem))
        self.charged = self._charge()
        """Limit -> task -> what the task's replicas count for there."""
        self.total = {limit: sum(by_task.values()) for limit, by_task in self.charged.items()}
        self._by_node: list[list[int]] | None = None

    def _charge(self) -> dict[QueueDimension, dict[int, int]]:
        charged: dict[QueueDimension, dict[int, int]] = {
            limit: {} for limits in self._limits.values() for limit in limits
        }
        if charged:
            for t in np.flatnonzero(self.replicas).tolist():
                task = self.tasks[t]
                for limit in self._limits[task.queue]:
                    need = queue_need(task.request, limit.dimension)
                    charged[limit][t] = need * int(self.replicas[t])
        return charged

    def limits_of(self, task: Task) -> list[QueueDimension]:
        """The limits of the task's queue and of those above it, the nearest first."""
        return self._limits[task.queue]

    def slots_of(self, task: int) -> tuple[Slot, ...]:
        """Where the task's replicas run."""
        return tuple(self._answer.get(self.tasks[task].id, ()))

    def nodes_of(self, task: int) -> Ints:
        """The nodes that a task runs on."""
        return self.node[self.start[task] : self.start[task + 1]]

    def entries_on(self, node: int) -> list[int]:
        """The entries of a node."""
        if self._by_node is None:
            lists: list[list[int]] = [[] for _ in range(int(self.node.max(initial=-1)) + 1)]
            for entry, at in enumerate(self.node.tolist()):
                lists[at].append(entry)
            self._by_node = lists
        return self._by_node[node] if node < len(self._by_node) else []

    def holds_of(self, entry: int) -> slice:
        """Where an entry's holds are."""
        return slice(self._first_hold[entry], self._first_hold[entry + 1])


class Room:
    """What is free when some tasks run: on nodes, on devices and under the limits of queues."""

    def __init__(self, ground: Ground, running: Running) -> None:
        self.ground = ground
        self.running = running
        self.gone: Flags = np.zeros(len(running.tasks), dtype=bool)
        """[T] tasks of the final state that don't run here."""
        self.free: Ints = ground.capacity.copy()
        """[K, N]; below 0 where a node is over-full."""
        self.milli: Ints = np.full(len(ground.memory_mib), WHOLE_DEVICE_MILLI, dtype=np.int64)
        """[D]"""
        self.memory_mib: Ints = ground.memory_mib.copy()
        """[D]"""
        self._add(slice(None), slice(None), -1)
        self._forget()

    def _forget(self) -> None:
        self.tables: dict[Hashable, Ints] = {}
        """What was counted here before, by what was asked."""
        self._use: dict[QueueDimension, int] = {}

    def _add(self, entries: slice | Ints, holds: slice | Ints, sign: int) -> None:
        """Gives back what these hold, or takes it."""
        running = self.running
        at = running.node[entries]
        for free, held in zip(self.free, running.held, strict=True):
            np.add.at(free, at, sign * held[entries])
        device = running.hold_device[holds]
        np.add.at(self.milli, device, sign * running.hold_milli[holds])
        np.add.at(self.memory_mib, device, sign * running.hold_memory_mib[holds])

    def without(self, tasks: Iterable[int]) -> "Room":
        """The room when these tasks are away too; all of them run here."""
        away = copy(self)
        for name in ("gone", "free", "milli", "memory_mib"):
            setattr(away, name, getattr(self, name).copy())
        away._forget()
        running, gone = self.running, np.zeros_like(self.gone)
        gone[np.fromiter(tasks, dtype=np.int64)] = True
        away.gone |= gone
        leaves = gone[running.task]
        away._add(np.flatnonzero(leaves), np.flatnonzero(leaves[running.hold_entry]), 1)
        return away

    def use_of(self, limit: QueueDimension) -> int:
        """What counts against a limit."""
        if limit not in self._use:
            charged = self.running.charged[limit]
            away = sum(charged.get(task, 0) for task in np.flatnonzero(self.gone).tolist())
            self._use[limit] = self.running.total[limit] - away
        return self._use[limit]

    def short_limits(self, task: Task, replicas: int) -> list[tuple[QueueDimension, int, int]]:
        """Limits that so many replicas more would exceed, with what they need and what is held."""
        short = []
        for limit in self.running.limits_of(task):
            need = replicas * queue_need(task.request, limit.dimension)
            if need and self.use_of(limit) + need > limit.limit:
                short.append((limit, need, self.use_of(limit)))
        return short


def _limits(chains: Mapping[str, tuple[Queue, ...]]) -> dict[str, list[QueueDimension]]:
    return {
        name: [
            QueueDimension(queue.id, dimension, limit)
            for queue in chain
            for dimension, limit in sorted(queue.limit.items())
        ]
        for name, chain in chains.items()
    }


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _table(rows: Sequence[Sequence[int]], columns: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)


def _counted(
    slots: Sequence[Slot], node_index: Mapping[str, int], offset: Sequence[Mapping[str, int]]
) -> tuple[dict[int, int], dict[tuple[int, int], int]]:
    """How many of the slots are on each node, and on each (node, device)."""
    here: dict[int, int] = {}
    devices: dict[tuple[int, int], int] = {}
    for slot in slots:
        node = node_index[slot.node]
        here[node] = here.get(node, 0) + 1
        for device in slot.devices:
            key = node, offset[node][device]
            devices[key] = devices.get(key, 0) + 1
    return here, devices
