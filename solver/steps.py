"""The order in which a plan is carried out: what stops and starts when, so that nothing is taken
before it is free (model.md, C15).

Pure counting, near-linear in the number of tasks: only nodes on which something stops are looked
into; on the others all that starts has had its room all along.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from solver.eligibility import separated
from solver.objective import NODE_DIMENSIONS
from solver.plan import Step, StepKind
from solver.problem import WHOLE_DEVICE_MILLI, Problem, Slot, Task

Slots = Mapping[str, tuple[Slot, ...]]
Key = tuple[str, str, str]
"""(node, device, dimension), (node, "", dimension), or (node, task, "separate") for a task to be
gone from the node."""


def order_steps(problem: Problem, after: Slots) -> tuple[Step, ...]:
    """The steps from what runs at the start to ``after``, ordered by wave.

    Steps of one wave may run at once and in any order: each start finds its room free before the
    wave begins. A task is stopped once and started once, its moved and new replicas together.

    * What doesn't come back stops first, and what has room from the start starts first.
    * What moves is stopped only when the place that it goes to is free, so that it is down for one
      wave. Where several wait for each other in a ring, all of the ring stop at once.
    * Of what is ready the highest priority goes first.
    """
    changes = _changes(problem, after)
    if not any(change.stops for change in changes):
        return tuple(_step(StepKind.START, change, 0) for change in changes)
    return _Order(problem, after, changes).steps()


@dataclass(slots=True)
class _Change:
    """What becomes of one task: the slots it leaves and those it takes."""

    task: Task
    stops: tuple[Slot, ...]
    starts: tuple[Slot, ...]
    needs: dict[Key, int] = field(default_factory=dict)
    """What it takes beyond what it leaves there itself."""
    frees: dict[Key, int] = field(default_factory=dict)
    """What it leaves beyond what it takes there again."""
    stopped_in: int | None = None


def _changes(problem: Problem, after: Slots) -> list[_Change]:
    """The changes of all tasks that don't stay as they are, highest priority first."""
    found: list[_Change] = []
    for task in problem.tasks:
        stops, starts = task.placed, after.get(task.id, ())
        if stops and starts:
            if stops == starts:
                continue
            stops, starts = _without(stops, starts), _without(starts, stops)
        if stops or starts:
            found.append(_Change(task, stops, starts))
    return sorted(found, key=lambda change: -change.task.priority)


def _without(slots: tuple[Slot, ...], others: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """The slots that aren't among the others, each as often as it is missing there."""
    left = Counter(slot.key for slot in others)
    found: list[Slot] = []
    for slot in slots:
        if left[slot.key] > 0:
            left[slot.key] -= 1
        else:
            found.append(slot)
    return tuple(found)


def _amounts(task: Task, slots: Iterable[Slot], nodes: set[str]) -> Iterator[tuple[Key, int]]:
    """What replicas in these slots hold on the nodes, dimension by dimension."""
    request = task.request
    on_node = [(name, need) for name in NODE_DIMENSIONS if (need := getattr(request, name))]
    for slot in slots:
        if slot.node not in nodes:
            continue
        for dimension, need in on_node:
            yield (slot.node, "", dimension), need
        for device in slot.devices:
            yield (slot.node, device, "gpu_milli"), request.gpu_milli
            if request.gpu_memory_mib:
                yield (slot.node, device, "gpu_memory_mib"), request.gpu_memory_mib


def _step(kind: StepKind, change: _Change, wave: int) -> Step:
    slots = change.stops if kind is StepKind.STOP else change.starts
    return Step(kind=kind, task=change.task.id, replicas=slots, wave=wave)


class _Order:
    """One pass over the changes: a heap of what may be ready, and for each key who waits for it."""

    def __init__(self, problem: Problem, after: Slots, changes: list[_Change]) -> None:
        self.changes = changes
        self.nodes = {slot.node for change in changes for slot in change.stops}
        self.room = self._rooms(problem, after)
        """What is left of each key, everything that is done so far counted."""
        for change in changes:
            self._weigh(change)
        self._keep_apart(problem, after)
        self.room_at_start = dict(self.room)
        self.started: Counter[Key] = Counter()
        self.free_from: Counter[Key] = Counter()
        """The first wave before which every stop so far on the key is over."""
        self.waiters: defaultdict[Key, list[int]] = defaultdict(list)
        self.holders: defaultdict[Key, list[int]] = defaultdict(list)
        for i, change in enumerate(changes):
            for key in change.frees:
                self.holders[key].append(i)
        self.ready = [i for i, change in enumerate(changes) if change.starts]
        heapify(self.ready)
        self.done: list[Step] = []

    def steps(self) -> tuple[Step, ...]:
        """Everything in order; raises nothing, since stopping all first always works."""
        for i, change in enumerate(self.changes):
            if not change.starts:
                self._stop(i, 0)
        waiting = set(self.ready)
        first = 0
        while waiting:
            while self.ready:
                i = heappop(self.ready)
                if self._start(i):
                    waiting.discard(i)
            while waiting and first not in waiting:
                first += 1
            if waiting:
                self._break_ring(first)
        self.done.sort(key=lambda step: (step.wave, step.kind is StepKind.START))
        return tuple(self.done)

    def _rooms(self, problem: Problem, after: Slots) -> dict[Key, int]:
        """Capacity, or what the plan holds in the end where that is more (E), less what runs."""
        before_use: Counter[Key] = Counter()
        after_use: Counter[Key] = Counter()
        for task in problem.tasks:
            for key, need in _amounts(task, task.placed, self.nodes):
                before_use[key] += need
            for key, need in _amounts(task, after.get(task.id, ()), self.nodes):
                after_use[key] += need
        rooms: dict[Key, int] = {}
        for node in problem.nodes:
            if node.id not in self.nodes:
                continue
            capacities = {(node.id, "", name): getattr(node, name) for name in NODE_DIMENSIONS}
            for device in node.devices:
                capacities[node.id, device.id, "gpu_milli"] = WHOLE_DEVICE_MILLI
                capacities[node.id, device.id, "gpu_memory_mib"] = device.memory_mib
            for key, capacity in capacities.items():
                rooms[key] = max(capacity, after_use[key]) - before_use[key]
        return rooms

    def _weigh(self, change: _Change) -> None:
        balance: Counter[Key] = Counter()
        for key, need in _amounts(change.task, change.starts, self.nodes):
            balance[key] += need
        for key, need in _amounts(change.task, change.stops, self.nodes):
            balance[key] -= need
        change.needs = {key: need for key, need in balance.items() if need > 0}
        change.frees = {key: -need for key, need in balance.items() if need < 0}

    def _keep_apart(self, problem: Problem, after: Slots) -> None:
        """Who has to be gone from a node before a task that it is separate from starts there."""
        apart = separated(problem)
        if not apart:
            return
        changes = {change.task.id: change for change in self.changes}
        for change in self.changes:
            for other in apart.get(change.task.id, ()):
                leaver = changes.get(other)
                if leaver is None:
                    continue
                stays_on = {slot.node for slot in after.get(other, ())}
                left = {slot.node for slot in leaver.stops} - stays_on
                for slot in change.starts:
                    if slot.node in left:
                        key = (slot.node, other, "separate")
                        self.room[key] = -1
                        leaver.frees[key] = 1
                        change.needs[key] = 0

    def _start(self, i: int) -> bool:
        """Starts what has room, stopping it before; else it waits for the first thing it lacks."""
        change = self.changes[i]
        lacking = self._lacking(change)
        if lacking is not None:
            self.waiters[lacking].append(i)
            return False
        wave = self._earliest(change)
        for key, need in change.needs.items():
            self.room[key] -= need
            self.started[key] += need
        if change.stops:
            if change.stopped_in is None:
                self._stop(i, wave)
            wave = max(wave, (change.stopped_in or 0) + 1)
        self.done.append(_step(StepKind.START, change, wave))
        return True

    def _lacking(self, change: _Change) -> Key | None:
        return next((key for key, need in change.needs.items() if need > self.room[key]), None)

    def _earliest(self, change: _Change) -> int:
        """The first wave in which all that the change takes is free for certain.

        What was free at the start is free in wave 0. Beyond that every stop so far has to be over:
        which of them made the room isn't told apart.
        """
        return max(
            (
                self.free_from[key]
                for key, need in change.needs.items()
                if self.started[key] + need > self.room_at_start[key]
            ),
            default=0,
        )

    def _stop(self, i: int, wave: int) -> None:
        change = self.changes[i]
        change.stopped_in = wave
        self.done.append(_step(StepKind.STOP, change, wave))
        for key, freed in change.frees.items():
            self.room[key] += freed
            self.free_from[key] = max(self.free_from[key], wave + 1)
            for waiter in self.waiters.pop(key, ()):
                heappush(self.ready, waiter)

    def _break_ring(self, first: int) -> None:
        """Nothing is ready: stops all of a ring of tasks that wait for each other's places.

        Whatever a task lacks is held by one that is to stop yet, since in the end all fit: going
        from one to the next leads into a ring.
        """
        path: dict[int, int] = {}
        at = first
        while at not in path:
            path[at] = len(path)
            at = self._holder(at)
        ring = list(path)[path[at] :]
        wave = max(self._earliest(self.changes[i]) for i in ring)
        for i in sorted(ring):
            self._stop(i, wave)

    def _holder(self, i: int) -> int:
        """Who holds what the change lacks and is still to stop; of several the least urgent."""
        lacking = self._lacking(self.changes[i])
        holders = () if lacking is None else reversed(self.holders[lacking])
        return next(h for h in holders if h != i and self.changes[h].stopped_in is None)
