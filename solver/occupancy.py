"""Who holds what, while an answer is being built: the room left on nodes, devices and in queues.

Mutable, and private to one solve. The devices of every replica are kept as they are: rebuilding
them from counts once gave plans in which running tasks no longer fitted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, islice

from solver.eligibility import accepts, device_accepts, queue_chains, queue_need, separated
from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI, Node, Problem, Request, Slot, Task

CHOICES_TRIED = 256
"""Subsets of free devices looked at for the best-linked one: all of them on nodes of up to 8."""

RequestClass = tuple[Request, tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]
"""Request, models and selector: what makes two tasks see a node alike."""
Seen = tuple[tuple[int, ...], Slot] | None
"""What a slot would cost, and the slot; None where there is no room."""


class Occupancy:
    """The state of a cluster under some slots. ``add`` and ``remove`` are each other's inverse."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.tasks = {task.id: task for task in problem.tasks}
        self.nodes = {node.id: node for node in problem.nodes}
        self.slots: dict[str, list[Slot]] = {}
        self.on_node: dict[str, Counter[str]] = {}
        self.free: dict[str, dict[str, int]] = {}
        self.free_milli: dict[str, dict[str, int]] = {}
        self.free_memory_mib: dict[str, dict[str, int]] = {}
        for node in problem.nodes:
            self._open(node)
        self.queue_use: dict[str, Counter[str]] = {queue.id: Counter() for queue in problem.queues}
        self.chains = queue_chains(problem)
        self.separated = separated(problem)
        self.changes: Counter[str] = Counter()
        """Grows with every change on a node: what was found out before may no longer hold."""
        self.seen: dict[RequestClass, dict[str, tuple[int, Seen]]] = {}
        """What the quick answer found on each node for equal requests, and after how many changes
        there."""

    def add_node(self, node: Node) -> None:
        """A node has joined, with nothing on it."""
        self.problem = replace(self.problem, nodes=(*self.problem.nodes, node))
        self.nodes[node.id] = node
        self._open(node)

    def _open(self, node: Node) -> None:
        self.on_node[node.id] = Counter()
        self.free[node.id] = {dimension: getattr(node, dimension) for dimension in NODE_DIMENSIONS}
        self.free_milli[node.id] = {device.id: WHOLE_DEVICE_MILLI for device in node.devices}
        self.free_memory_mib[node.id] = {device.id: device.memory_mib for device in node.devices}

    def add(self, task: Task, slot: Slot) -> None:
        """Puts one replica there, whether it fits or not."""
        self.slots.setdefault(task.id, []).append(slot)
        self._count(task, slot, 1)

    def remove(self, task: Task, slot: Slot) -> None:
        """Takes one replica away from there."""
        self.slots[task.id].remove(slot)
        if not self.slots[task.id]:
            del self.slots[task.id]
        self._count(task, slot, -1)

    def _count(self, task: Task, slot: Slot, sign: int) -> None:
        request = task.request
        self.on_node[slot.node][task.id] += sign
        self.changes[slot.node] += 1
        for dimension in NODE_DIMENSIONS:
            self.free[slot.node][dimension] -= sign * getattr(request, dimension)
        for device in slot.devices:
            self.free_milli[slot.node][device] -= sign * request.gpu_milli
            self.free_memory_mib[slot.node][device] -= sign * request.gpu_memory_mib
        for queue in self.chains[task.queue]:
            for dimension in {*queue.limit, *queue.guaranteed}:
                need = queue_need(request, dimension)
                self.queue_use[queue.id][dimension] += sign * need

    def count(self, task: Task) -> int:
        """How many replicas of the task run."""
        return len(self.slots.get(task.id, ()))

    def need_of_gang(self, task: Task, dimension: str) -> int:
        """What the fewest replicas that may run need of a dimension of a queue."""
        return task.fewest * queue_need(task.request, dimension)

    def fits_queues(self, task: Task) -> bool:
        """True when one more replica breaks no limit of its queue or of those above."""
        return all(
            not (need := queue_need(task.request, dimension))
            or self.queue_use[queue.id][dimension] + need <= limit
            for queue in self.chains[task.queue]
            for dimension, limit in queue.limit.items()
        )

    def fits_node(self, task: Task, node: Node) -> bool:
        """True when the node's cpu, memory, disk and network have room for one more replica."""
        free = self.free[node.id]
        return all(
            not (need := getattr(task.request, dimension)) or need <= free[dimension]
            for dimension in NODE_DIMENSIONS
        )

    def is_apart(self, task: Task, node: Node) -> bool:
        """True when no task runs on the node that this one is separate from."""
        users = self.on_node[node.id]
        return not any(users[other] for other in self.separated.get(task.id, ()))

    def slot_on(self, task: Task, node: Node) -> Slot | None:
        """The best place for one more replica on this node, None when it has no room.

        Queues and the task's own gang are not looked at.
        """
        if not (accepts(task, node) and self.fits_node(task, node) and self.is_apart(task, node)):
            return None
        devices = self.devices_on(task, node)
        return None if devices is None else Slot(node=node.id, devices=devices)

    def devices_on(self, task: Task, node: Node) -> tuple[str, ...] | None:
        """The fullest device that holds the share, or the best-linked free devices; None without
        room.
        """
        request = task.request
        if not request.gpus:
            return ()
        milli, memory_mib = self.free_milli[node.id], self.free_memory_mib[node.id]
        usable = [
            device
            for device in node.devices
            if device_accepts(task, device)
            and request.gpu_milli <= milli[device.id]
            and (not request.gpu_memory_mib or request.gpu_memory_mib <= memory_mib[device.id])
        ]
        if len(usable) < request.gpus:
            return None
        if request.gpus == 1:
            # Fullest first; then what fewest tasks could use instead of it: the least memory.
            best = min(usable, key=lambda d: (milli[d.id], memory_mib[d.id], d.id))
            return (best.id,)
        choices = islice(combinations(usable, request.gpus), CHOICES_TRIED)
        best_choice = min(
            choices, key=lambda c: sum(pair_cost(a, b) for a, b in combinations(c, 2))
        )
        return tuple(device.id for device in best_choice)

    def free_devices(self, node: Node) -> int:
        """How many of the node's devices nothing runs on."""
        return sum(milli == WHOLE_DEVICE_MILLI for milli in self.free_milli[node.id].values())


def occupied(problem: Problem, answer: Mapping[str, tuple[Slot, ...]]) -> Occupancy:
    """The state of the cluster when the tasks run in these slots."""
    occupancy = Occupancy(problem)
    for task in problem.tasks:
        for slot in answer.get(task.id, ()):
            occupancy.add(task, slot)
    return occupancy
