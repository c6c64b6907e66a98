"""What is broken at the start, mended by the cheapest moves that are seen to do it (model.md, O0).

Node after node, device after device: a set of tasks moves off a broken place, whole or not at all,
and whoever turns out not to be needed stays where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from solver.greedy import Answer, packing_sets, place_gang
from solver.objective import NODE_DIMENSIONS
from solver.occupancy import occupied
from solver.problem import Node, Problem, Slot, Task
from solver.score import repair, slots_before

MOST_LOOKS = 100_000
"""Nodes looked into for new places, over all: about a second, after which the rest stays broken."""
NODES_AT_A_TIME = 64
"""Of so many nodes the best is taken; looking into all of thousands takes a tenth of a second."""


def mended(problem: Problem) -> Answer:
    """What runs at the start, with as much of it moved as mends broken places, and short gangs made
    whole where there is room. Breaks no rule that holds, and nothing moves that needn't.
    """
    before = slots_before(problem)
    return _Mender(problem, before).mend() if repair(problem, before) else before


@dataclass(frozen=True, slots=True)
class _Place:
    """Something of a node or its device that may be exceeded; or two tasks that are not to meet."""

    node: str
    device: str | None = None
    dimension: str = ""
    pair: tuple[str, ...] = ()


class _Mender:
    def __init__(self, problem: Problem, start: Answer) -> None:
        self.problem = problem
        self.occupancy = occupied(problem, start)
        self.touched: set[str] = set()
        self.looks_left = MOST_LOOKS
        self.at = 0

    def mend(self) -> Answer:
        """One pass over all places, then over all gangs."""
        for place in list(self._places()):
            self._ease(place)
        for task in self.problem.tasks:
            if 0 < self.occupancy.count(task) < task.fewest:
                self._complete(task)
        return {task: tuple(slots) for task, slots in self.occupancy.slots.items()}

    def _places(self) -> Iterator[_Place]:
        """Every place that is broken now."""
        for node in self.problem.nodes:
            users = self.occupancy.on_node[node.id]
            found = [_Place(node.id, dimension=dimension) for dimension in NODE_DIMENSIONS]
            for device in node.devices:
                names = ("gpu_milli", "gpu_memory_mib")
                found += [_Place(node.id, device.id, name) for name in names]
            found += [
                _Place(node.id, pair=(task, other))
                for task in users
                for other in self.occupancy.separated.get(task, ())
                if task < other
            ]
            yield from (place for place in found if self._excess(place) > 0)

    def _excess(self, place: _Place) -> int:
        """How much has to leave the place until it is no longer broken."""
        occupancy = self.occupancy
        if place.pair:
            return int(all(occupancy.on_node[place.node][task] for task in place.pair))
        if place.device is None:
            return -occupancy.free[place.node][place.dimension]
        if place.dimension == "gpu_memory_mib":
            return -occupancy.free_memory_mib[place.node][place.device]
        return -occupancy.free_milli[place.node][place.device]

    def _held(self, task: Task, place: _Place) -> int:
        """What the task would take from the excess by leaving."""
        if place.pair:
            return int(task.id in place.pair)
        return getattr(task.request, place.dimension) * len(self._slots_in(task, place))

    def _slots_in(self, task: Task, place: _Place) -> list[Slot]:
        return [
            slot
            for slot in self.occupancy.slots.get(task.id, ())
            if slot.node == place.node and (place.device is None or place.device in slot.devices)
        ]

    def _ease(self, place: _Place) -> None:
        excess = self._excess(place)
        if excess <= 0:  # mended along with another place
            return
        tasks = [
            self.occupancy.tasks[i] for i, n in self.occupancy.on_node[place.node].items() if n
        ]
        movable = [task for task in tasks if task.preemptible and self._held(task, place) > 0]
        if sum(self._held(task, place) for task in movable) < excess:
            return
        for tasks in self._sets(movable, place, excess):
            if self._move_off(tasks, place):
                return

    def _sets(self, tasks: list[Task], place: _Place, excess: int) -> list[list[Task]]:
        """Each task that is enough by itself, and all in the order of cost by what they free; the
        cheapest first.
        """
        freed = {task.id: min(excess, self._held(task, place)) for task in tasks}
        tasks = sorted(tasks, key=lambda t: (t.priority, t.request.weight, t.id))
        tasks.sort(key=lambda t: self._cost(t) * 2**20 // freed[t.id])
        total = covered = 0
        for task in tasks:
            if covered < excess:
                covered += freed[task.id]
                total += self._cost(task)
        alone = sorted((t for t in tasks if freed[t.id] == excess), key=self._cost)
        sets = [(self._cost(task), [task]) for task in alone]
        return [some for _, some in sorted([*sets, (total, tasks)], key=lambda pair: pair[0])]

    def _cost(self, task: Task) -> int:
        return 0 if task.id in self.touched else task.move_cost

    def _move_off(self, tasks: list[Task], place: _Place) -> bool:
        """Moves as many of the tasks, in this order, as it takes; True when the place is mended."""
        moved: dict[str, list[Slot]] = {}
        for task in tasks:
            if self._excess(place) <= 0:
                break
            slots = list(self.occupancy.slots[task.id])
            if self._may_touch(task, moved) and self._relocate(task, place):
                moved[task.id] = slots
        if self._excess(place) > 0:
            for task_id, slots in moved.items():
                self._set(self.occupancy.tasks[task_id], slots)
            return False
        dearest_first = sorted((t for t in tasks if t.id in moved), key=self._cost, reverse=True)
        for task in dearest_first if len(moved) > 1 else ():
            elsewhere = list(self.occupancy.slots[task.id])
            self._set(task, moved[task.id])
            if self._excess(place) > 0 or not self._has_room(task):
                self._set(task, elsewhere)
            else:
                del moved[task.id]
        self.touched |= moved.keys()
        return True

    def _may_touch(self, task: Task, moved: dict[str, list[Slot]]) -> bool:
        most = self.problem.budget.max_moves
        touched = self.touched | moved.keys() | {task.id}
        return task.preemptible and (most is None or len(touched) <= most)

    def _relocate(self, task: Task, place: _Place) -> bool:
        """Moves what the task has there, or all of it where a gang can't be parted; all or none."""
        slots = list(self.occupancy.slots[task.id])
        here = self._slots_in(task, place)
        for lifted in (here, slots) if len(here) < len(slots) else (here,):
            self._set(task, [slot for slot in slots if slot not in lifted])
            if self._place(task, len(slots)):
                return True
            self._set(task, slots)
        return False

    def _complete(self, task: Task) -> None:
        """Makes a gang that runs too few replicas whole, beside those that run or all anew."""
        if self._place(task, task.fewest):
            return
        slots = list(self.occupancy.slots[task.id])
        if self._may_touch(task, {}):
            self._set(task, [])
            if self._place(task, max(task.fewest, len(slots))):
                self.touched.add(task.id)
            else:
                self._set(task, slots)

    def _place(self, task: Task, fewest: int) -> bool:
        """Adds replicas until at least so many run, or none."""
        occupancy = self.occupancy
        before = list(occupancy.slots.get(task.id, ()))
        for nodes in self._node_sets(task):
            self.looks_left -= len(nodes) * (task.replicas - len(before))
            if self.looks_left < 0:
                return False
            if place_gang(occupancy, task, nodes):
                if occupancy.count(task) >= fewest:
                    return True
                self._set(task, before)
        return False

    def _node_sets(self, task: Task) -> Iterator[tuple[Node, ...]]:
        nodes = self.problem.nodes
        if task.pack_within is not None:
            yield from packing_sets(self.occupancy, task)
        elif task.replicas > 1:
            yield nodes
        else:  # the best of a few nodes will do; on from where the last one was found
            for _ in range(0, len(nodes), NODES_AT_A_TIME):
                yield nodes[self.at : self.at + NODES_AT_A_TIME]
                following = self.at + NODES_AT_A_TIME
                self.at = following if following < len(nodes) else 0

    def _set(self, task: Task, slots: list[Slot]) -> None:
        for slot in list(self.occupancy.slots.get(task.id, ())):
            self.occupancy.remove(task, slot)
        for slot in slots:
            self.occupancy.add(task, slot)

    def _has_room(self, task: Task) -> bool:
        """True when nothing where the task runs is over-full, nor shared against (C9)."""
        occupancy = self.occupancy
        return all(
            occupancy.is_apart(task, occupancy.nodes[slot.node])
            and min(occupancy.free[slot.node].values()) >= 0
            and all(
                occupancy.free_milli[slot.node][device] >= 0
                and occupancy.free_memory_mib[slot.node][device] >= 0
                for device in slot.devices
            )
            for slot in occupancy.slots[task.id]
        )
