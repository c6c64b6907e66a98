"""What holds room on the nodes, and whether a task fits beside it.

Two such pictures are asked: what will hold room once all that leaves has left, and what holds it
now. By the specification alone (``solver.check``), of the nodes concerned: (C2) to (C5) and (C9)
are about single nodes, and where the replicas of a gang are to each other was settled when its room
was reserved.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from solver.check import Violation, slot_violations
from solver.problem import Node, Problem, Queue, Slot, Task


class Room:
    """Tasks where they hold room."""

    def __init__(self, nodes: Iterable[Node], tasks: Iterable[Task]) -> None:
        """Of each task its ``placed`` counts."""
        self._nodes = {node.id: node for node in nodes}
        self._tasks: dict[str, Task] = {}
        self._on_node: defaultdict[str, set[str]] = defaultdict(set)
        for task in tasks:
            self.add(task, task.placed)

    def add(self, task: Task, slots: tuple[Slot, ...]) -> None:
        self._tasks[task.id] = replace(task, placed=slots, replicas=max(len(slots), 1))
        for slot in slots:
            self._on_node[slot.node].add(task.id)

    def hindrances(self, task: Task, slots: tuple[Slot, ...]) -> tuple[Violation, ...]:
        """What would be wrong with the task in these slots now; empty when it may start there."""
        places = {slot.node for slot in slots}
        missing = places - self._nodes.keys()
        if missing:
            return tuple(_gone(node) for node in sorted(missing))
        beside = {other for node in places for other in self._on_node[node]} - {task.id}
        known = beside | {task.id}
        new = replace(
            task,
            replicas=len(slots),
            min_replicas=None,
            pack_within=None,
            spread_over=None,
            placed=(),
            separate_from=_among(task, known),
        )
        held = [self._there(self._tasks[other], places, known) for other in sorted(beside)]
        problem = Problem(
            version=1,
            nodes=tuple(self._nodes[node] for node in sorted(places)),
            tasks=(*held, new),
            queues=tuple(Queue(id=queue) for queue in sorted({t.queue for t in (*held, new)})),
        )
        devices = {node: {device.id for device in self._nodes[node].devices} for node in places}
        lost = [slot.node for slot in slots if not devices[slot.node].issuperset(slot.devices)]
        if lost:
            return tuple(_gone(f"a device of {node}") for node in sorted(set(lost)))
        before = {other.id: other.placed for other in held}
        known_faults = set(slot_violations(problem, before))
        after = slot_violations(problem, before | {task.id: slots})
        return tuple(fault for fault in after if fault not in known_faults)

    def in_the_way(self, slots: tuple[Slot, ...], among: Iterable[str]) -> list[tuple[str, str]]:
        """Which of these tasks hold something on the nodes of the slots, as (task, node): those on
        the very devices, or else all that are there."""
        devices = {(slot.node, device) for slot in slots for device in slot.devices}
        places = {slot.node for slot in slots}
        near = [
            (task, slot)
            for task in sorted(set(among) & self._tasks.keys())
            for slot in self._tasks[task].placed
            if slot.node in places
        ]
        on_devices = [
            (task, slot)
            for task, slot in near
            if any((slot.node, device) in devices for device in slot.devices)
        ]
        return list(dict.fromkeys((task, slot.node) for task, slot in on_devices or near))

    def _there(self, task: Task, places: set[str], known: set[str]) -> Task:
        placed = tuple(slot for slot in task.placed if slot.node in places)
        return replace(
            task,
            replicas=len(placed),
            min_replicas=None,
            pack_within=None,
            spread_over=None,
            placed=placed,
            separate_from=_among(task, known),
        )


def _among(task: Task, known: set[str]) -> tuple[str, ...]:
    return tuple(other for other in task.separate_from if other in known)


def _gone(what: str) -> Violation:
    return Violation(rule="C1", code="gone", text=f"{what} isn't there any more")
