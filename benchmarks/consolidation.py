"""What emptying one device after the other reaches: the baseline for defragmenting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from solver.check import slot_violations
from solver.problem import WHOLE_DEVICE_MILLI, Problem, Slot, Task

Key = tuple[str, str]
"""Node and device."""
Order = Callable[["_Cluster", Key], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Consolidation:
    """How many devices hold nothing any more, and how many tasks had to move."""

    freed: int
    moves: int


def consolidate(problem: Problem, most_moves: int) -> Consolidation:
    """The better of two greedy orders: devices with the fewest shares first, or those with the
    least milli.

    Each device in turn is emptied if all that it holds are shares and each fits another device in
    use; a share goes where it leaves the least (best fit). Rounds go on while they free something.
    The tasks are single, run, and have no wish but their models.
    """
    orders: tuple[Order, ...] = (
        lambda cluster, key: (len(cluster.shares[key]), cluster.held_milli[key]),
        lambda cluster, key: (cluster.held_milli[key], len(cluster.shares[key])),
    )
    return max(
        (_consolidated(problem, most_moves, order) for order in orders),
        key=lambda found: (found.freed, -found.moves),
    )


def devices_in_use(slots: Mapping[str, tuple[Slot, ...]]) -> int:
    """Devices on which anything runs, given the slots of each task."""
    return len(
        {(slot.node, device) for held in slots.values() for slot in held for device in slot.devices}
    )


def _consolidated(problem: Problem, most_moves: int, order: Order) -> Consolidation:
    cluster = _Cluster(problem)
    before = devices_in_use(cluster.slots())
    moves, freed = 0, 1
    while freed:
        freed = 0
        for key in sorted(cluster.shares, key=lambda key: (order(cluster, key), key)):
            count = len(cluster.shares[key])
            if 0 < count <= most_moves - moves and cluster.empty(key):
                moves += count
                freed += 1
    slots = cluster.slots()
    if slot_violations(problem, slots):
        raise RuntimeError("the baseline breaks a rule")
    return Consolidation(freed=before - devices_in_use(slots), moves=moves)


class _Cluster:
    """What runs where, with the shares that could move by their device."""

    def __init__(self, problem: Problem) -> None:
        self.models = {(n.id, d.id): d.model for n in problem.nodes for d in n.devices}
        self.cpu_milli = {node.id: node.cpu_milli for node in problem.nodes}
        self.memory_mib = {node.id: node.memory_mib for node in problem.nodes}
        self.held_milli = dict.fromkeys(self.models, 0)
        self.shares: dict[Key, list[Task]] = {key: [] for key in self.models}
        self._slots: dict[str, tuple[Slot, ...]] = {}
        for task in problem.tasks:
            for slot in task.placed:
                self._start(task, slot)

    def slots(self) -> dict[str, tuple[Slot, ...]]:
        return dict(self._slots)

    def empty(self, source: Key) -> bool:
        """Moves all that the device holds, or nothing."""
        moved: list[tuple[Task, Slot]] = []
        for task in sorted(self.shares[source], key=lambda task: -task.request.gpu_milli):
            old = self._slots[task.id][0]
            self._stop(task)
            target = self._best_fit(task, source)
            if target is None:
                self._start(task, old)
                for other, slot in reversed(moved):
                    self._stop(other)
                    self._start(other, slot)
                return False
            self._start(task, Slot(node=target[0], devices=(target[1],)))
            moved.append((task, old))
        return True

    def _best_fit(self, task: Task, source: Key) -> Key | None:
        request = task.request
        fitting = (
            key
            for key, held in self.held_milli.items()
            if 0 < held <= WHOLE_DEVICE_MILLI - request.gpu_milli
            and key != source
            and self.cpu_milli[key[0]] >= request.cpu_milli
            and self.memory_mib[key[0]] >= request.memory_mib
            and (not task.gpu_models or self.models[key] in task.gpu_models)
        )
        return max(fitting, key=self.held_milli.__getitem__, default=None)

    def _start(self, task: Task, slot: Slot) -> None:
        self._slots[task.id] = (slot,)
        self._count(task, slot, 1)
        if task.request.is_share:
            self.shares[slot.node, slot.devices[0]].append(task)

    def _stop(self, task: Task) -> None:
        (slot,) = self._slots.pop(task.id)
        self._count(task, slot, -1)
        if task.request.is_share:
            self.shares[slot.node, slot.devices[0]].remove(task)

    def _count(self, task: Task, slot: Slot, sign: int) -> None:
        self.cpu_milli[slot.node] -= sign * task.request.cpu_milli
        self.memory_mib[slot.node] -= sign * task.request.memory_mib
        for device in slot.devices:
            self.held_milli[slot.node, device] += sign * task.request.gpu_milli
