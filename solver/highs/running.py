"""What running tasks leave to be decided: what stays for sure, and what may stay only where it is.

A replica runs after the plan either in a slot that could take it anew, or it stays in a slot that
couldn't (model.md, E): on a cordoned node, a lost device, one of another model, one that is
over-full. Such *leftovers* are counted apart, and pay only for what they would compete for.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from solver.arrays import Arrays, Flags, Ints
from solver.problem import WHOLE_DEVICE_MILLI, Slot, Task

Leftover = tuple[int, int, tuple[int, ...]]
"""(task, node or -1 for one whose room nobody else may use, the devices that others may use)."""


@dataclass(frozen=True, slots=True)
class Running:
    """The start, split into what can't change and what may."""

    is_fixed: Flags
    """[T] the task's replicas stay where they are: not preemptible, or nothing may be touched."""
    count: Ints
    """[T] replicas that run and aren't fixed."""
    fixed_count: Ints
    """[T] replicas that run and are."""
    need: dict[int, list[int]]
    """Node -> what all its replicas need in each dimension, on nodes where anything runs."""
    fixed_need: dict[int, list[int]]
    fixed_milli: dict[int, int]
    """Device -> milli that stay held."""
    fixed_memory_mib: dict[int, int]
    leftovers: Counter[Leftover] = field(default_factory=Counter)


def running(arrays: Arrays) -> Running:
    """Reads ``placed`` of all tasks."""
    return _Reader(arrays).read()


class _Reader:
    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.tasks = arrays.problem.tasks
        self.node_number: dict[str, int] = {}
        self.device_number: dict[tuple[int, str], int] = {}
        self.milli: defaultdict[int, int] = defaultdict(int)
        self.memory_mib: defaultdict[int, int] = defaultdict(int)

    def read(self) -> Running:
        tasks, cluster = self.tasks, self.arrays.cluster
        nothing_moves = self.arrays.problem.budget.max_moves == 0
        fixed = [bool(t.placed) and (nothing_moves or not t.preemptible) for t in tasks]
        found = Running(
            is_fixed=np.array(fixed, dtype=np.bool_),
            count=np.array(
                [0 if f else len(t.placed) for t, f in zip(tasks, fixed, strict=True)],
                dtype=np.int64,
            ),
            fixed_count=np.array(
                [len(t.placed) if f else 0 for t, f in zip(tasks, fixed, strict=True)],
                dtype=np.int64,
            ),
            need={},
            fixed_need={},
            fixed_milli={},
            fixed_memory_mib={},
        )
        if not any(task.placed for task in tasks):
            return found
        self.node_number = {node.id: i for i, node in enumerate(self.arrays.problem.nodes)}
        where = [
            (t, slot, *self._numbers(slot)) for t, task in enumerate(tasks) for slot in task.placed
        ]
        for t, _, node, devices in where:
            self._count(found, t, node, devices)
        overfull = {d for d, milli in self.milli.items() if milli > WHOLE_DEVICE_MILLI}
        memory = cluster.device_memory_mib
        overfull |= {d for d, mib in self.memory_mib.items() if mib > memory[d]}
        for t, _, node, devices in where:
            if not fixed[t]:
                self._find_leftover(found, t, node, devices, overfull)
        return found

    def _numbers(self, slot: Slot) -> tuple[int, tuple[int, ...]]:
        node = self.node_number[slot.node]
        start = int(self.arrays.cluster.device_start[node])
        if (node, "") not in self.device_number:  # no id is empty: marks a node that is numbered
            self.device_number[node, ""] = -1
            for i, device in enumerate(self.arrays.problem.nodes[node].devices):
                self.device_number[node, device.id] = start + i
        return node, tuple(self.device_number[node, device] for device in slot.devices)

    def _count(self, found: Running, t: int, node: int, devices: tuple[int, ...]) -> None:
        need = self.arrays.shapes.need[self.arrays.shape[t]].tolist()
        fixed = bool(found.is_fixed[t])
        for table in (found.need, found.fixed_need) if fixed else (found.need,):
            row = table.setdefault(node, [0] * len(need))
            for k, quantity in enumerate(need):
                row[k] += quantity
        request = self.tasks[t].request
        for device in devices:
            self.milli[device] += request.gpu_milli
            self.memory_mib[device] += request.gpu_memory_mib
            if fixed:
                milli, memory = found.fixed_milli, found.fixed_memory_mib
                milli[device] = milli.get(device, 0) + request.gpu_milli
                memory[device] = memory.get(device, 0) + request.gpu_memory_mib

    def _find_leftover(
        self, found: Running, t: int, node: int, devices: tuple[int, ...], overfull: set[int]
    ) -> None:
        arrays, cluster = self.arrays, self.arrays.cluster
        shape, task = int(arrays.shape[t]), self.tasks[t]
        schedulable = arrays.problem.nodes[node].schedulable
        healthy = [d for d in devices if self._device(node, d).healthy]
        accepted = arrays.shapes.node_accepts[
            arrays.shapes.node_rule[shape], cluster.kind[node]
        ] and all(self._accepts(shape, task, d) and d not in overfull for d in devices)
        if not accepted:
            shared = [d for d in healthy if d not in overfull] if schedulable else []
            found.leftovers[t, node if schedulable else -1, tuple(shared)] += 1

    def _device(self, node: int, device: int):
        start = int(self.arrays.cluster.device_start[node])
        return self.arrays.problem.nodes[node].devices[device - start]

    def _accepts(self, shape: int, task: Task, device: int) -> bool:
        shapes, cluster = self.arrays.shapes, self.arrays.cluster
        rule = shapes.device_rule[shape]
        return bool(
            shapes.device_accepts[rule, cluster.device_kind[device]]
            and task.request.gpu_memory_mib <= cluster.device_memory_mib[device]
        )
