"""The quick answer: highest priority first, best fit, nothing that runs is touched without need.

Each task is tried as it stands; where that fails, it may take the place of running tasks of lower
priority. Every step leaves a state that obeys all rules, so the answer is valid whenever it is cut
short.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from solver.bounds import most_replicas
from solver.eligibility import Value, accepts, own_value_of, spread_rooms, value_of
from solver.objective import NODE_DOMAIN
from solver.occupancy import Occupancy, Seen, occupied
from solver.problem import Node, Problem, Slot, Task
from solver.score import is_touched, slots_before

Answer = dict[str, tuple[Slot, ...]]
"""Task id -> the slots of its running replicas."""


def place_quickly(problem: Problem, start: Answer | None = None) -> Answer:
    """Slots for as many tasks as the rules and best fit allow. Never breaks a rule that holds.

    ``start`` is what runs, with some of it moved already (repair.py); those tasks stay there.
    """
    builder = _Builder(problem, slots_before(problem) if start is None else start)
    if start is not None:
        builder.touched |= {t.id for t in problem.tasks if is_touched(t, start.get(t.id, ()))}
    for task in in_order(problem.tasks):
        if not builder.grow(task) and builder.occupancy.count(task) == 0:
            builder.preempt(task)
    return builder.answer()


def extend(problem: Problem, answer: Answer) -> Answer:
    """The answer with whatever still fits placed too. Nothing that it places is touched."""
    builder = _Builder(problem, answer)
    for task in in_order(problem.tasks):
        builder.grow(task)
    return builder.answer()


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Highest priority first, then the largest gang, then the largest request."""
    return sorted(
        tasks,
        key=lambda t: (
            -t.priority,
            -t.request.weight * t.fewest,
            -t.request.cpu_milli,
            -t.request.memory_mib,
            t.id,
        ),
    )


class _Builder:
    def __init__(self, problem: Problem, start: Answer) -> None:
        self.problem = problem
        self.occupancy = occupied(problem, start)
        self.touched: set[str] = set()
        self.settled: set[str] = set()
        """Tasks that something was evicted for: moving them again would undo the justification."""
        self.gave_way: dict[str, str] = {}
        """Evicted task -> the node on which another took its place."""

    def answer(self) -> Answer:
        return {task: tuple(slots) for task, slots in self.occupancy.slots.items()}

    def grow(self, task: Task) -> bool:
        """As the function; what gave way comes back whole, or only as far as (C12) lets it."""
        grown = grow(self.occupancy, task)
        if grown and task.id in self.gave_way and not self._has_lost_on(task):
            self._lift(task)  # what it lost elsewhere nobody has taken
            return False
        return grown

    def preempt(self, task: Task) -> bool:
        """Makes room on the node where that costs least; True when the task is placed."""
        if self.problem.budget.max_moves == 0:
            return False
        best: tuple[tuple[int, ...], Node, list[Task]] | None = None
        for node in self.problem.nodes:
            victims = self._victims(task, node)
            if not victims:
                continue
            cost = (
                max(v.priority for v in victims),
                sum(v.evict_cost for v in victims),
                sum(v.request.weight * len(v.placed) for v in victims),
            )
            if best is None or cost < best[0]:
                best = (cost, node, victims)
        if best is None:
            return False
        _, node, victims = best
        self._evict(victims)
        place_gang(self.occupancy, task, (node,))
        self.settled.add(task.id)
        self.gave_way |= {victim.id: node.id for victim in victims}
        for victim in victims:  # a victim that finds another place has moved
            self.grow(victim)
        return True

    def _has_lost_on(self, victim: Task) -> bool:
        """True unless the victim has lost replicas, and none of them where it gave way."""
        if self.occupancy.count(victim) >= len(victim.placed):
            return True
        node = self.gave_way[victim.id]
        before = sum(slot.node == node for slot in victim.placed)
        return self.occupancy.on_node[node][victim.id] < before

    def _victims(self, task: Task, node: Node) -> list[Task]:
        """The running tasks to stop so that the gang fits on this node; none if it can't."""
        if task.fewest > 1 or task.spread_over is not None or not accepts(task, node):
            return []
        most = self.problem.budget.max_moves
        candidates = [
            self.occupancy.tasks[other]
            for other, count in self.occupancy.on_node[node.id].items()
            if count and self._may_stop(self.occupancy.tasks[other], task)
        ]
        if not candidates:
            return []
        candidates.sort(key=lambda v: (v.priority, v.evict_cost, v.request.weight, v.id))
        room = len(candidates) if most is None else most - len(self.touched)
        stopped: list[tuple[Task, list[Slot]]] = []
        for victim in candidates:
            if len(stopped) >= room or self._fits(task, node):
                break
            stopped.append((victim, self._lift(victim)))
        needed = [victim for victim, _ in stopped] if self._fits(task, node) else []
        for victim, slots in reversed(stopped):  # give back whatever is not needed, dearest first
            self._lay(victim, slots)
            if victim in needed:
                if self._fits(task, node):
                    needed.remove(victim)
                else:
                    self._lift(victim)
        for victim, slots in stopped:
            if victim in needed:
                self._lay(victim, slots)
        return needed

    def _may_stop(self, victim: Task, task: Task) -> bool:
        return (
            victim.preemptible
            and victim.priority < task.priority
            and bool(victim.placed)
            and victim.id not in self.touched
            and victim.id not in self.settled
            and self.occupancy.slots[victim.id] == list(victim.placed)
        )

    def _fits(self, task: Task, node: Node) -> bool:
        return self.occupancy.fits_queues(task) and self.occupancy.slot_on(task, node) is not None

    def _lift(self, task: Task) -> list[Slot]:
        slots = list(self.occupancy.slots[task.id])
        for slot in slots:
            self.occupancy.remove(task, slot)
        return slots

    def _lay(self, task: Task, slots: list[Slot]) -> None:
        for slot in slots:
            self.occupancy.add(task, slot)

    def _evict(self, victims: list[Task]) -> None:
        for victim in victims:
            self._lift(victim)
            self.touched.add(victim.id)


def grow(occupancy: Occupancy, task: Task) -> bool:
    """Places as many more replicas as fit, if that makes a whole gang; True when any was placed.

    Nothing that runs is touched.
    """
    if not accepts_growth(task, occupancy.count(task)):
        return False
    if task.fewest > 1 and most_replicas(occupancy.problem, task) < task.fewest:
        return False  # not even on an empty cluster: don't fill this one to find out
    return any(place_gang(occupancy, task, nodes) for nodes in _node_sets(occupancy, task))


def accepts_growth(task: Task, count: int) -> bool:
    """True for a task that waits, or runs as a whole gang with replicas to come."""
    return count == 0 or task.fewest <= count < task.replicas


def _node_sets(occupancy: Occupancy, task: Task) -> Iterator[tuple[Node, ...]]:
    """The sets of nodes that the whole gang may be placed in, best first."""
    nodes = occupancy.problem.nodes
    if task.pack_within is not None:
        yield from packing_sets(occupancy, task)
        return
    if task.fewest > 1 and task.spread_over is None:  # a gang in one domain beats one over several
        for domain in sorted({name for node in nodes for name in node.domains}):
            values: dict[tuple[str, str], list[Node]] = {}
            for node in nodes:
                values.setdefault(own_value_of(node, domain), []).append(node)
            yield from (tuple(group) for group in values.values() if len(group) < len(nodes))
    yield nodes


def packing_sets(occupancy: Occupancy, task: Task) -> Iterator[tuple[Node, ...]]:
    """The nodes of each value of ``pack_within``; only the value that it is in for a task that
    runs.
    """
    values: dict[tuple[str, str], list[Node]] = {}
    for node in occupancy.problem.nodes:
        value = value_of(node, task.pack_within or NODE_DOMAIN)
        if value is not None:
            values.setdefault(value, []).append(node)
    used = {slot.node for slot in occupancy.slots.get(task.id, ())}
    for group in values.values():
        if used <= {node.id for node in group}:
            yield tuple(group)


def place_gang(occupancy: Occupancy, task: Task, nodes: tuple[Node, ...]) -> bool:
    """Adds replicas on these nodes, at least up to the fewest, or leaves all as it was."""
    added: list[Slot] = []
    while occupancy.count(task) < task.replicas:
        slot = _best_slot(occupancy, task, nodes)
        if slot is None:
            break
        occupancy.add(task, slot)
        added.append(slot)
    while added and not (_is_even(occupancy, task, nodes)):
        occupancy.remove(task, added.pop())
    if added and occupancy.count(task) >= task.fewest:
        return True
    for slot in added:
        occupancy.remove(task, slot)
    return False


def _best_slot(occupancy: Occupancy, task: Task, nodes: tuple[Node, ...]) -> Slot | None:
    if not occupancy.fits_queues(task):
        return None
    if _is_plain(occupancy, task):
        return _best_plain_slot(occupancy, task, nodes)
    spread = _spread(occupancy, task)
    best: tuple[tuple[int, ...], Slot] | None = None
    for node in nodes:
        slot = occupancy.slot_on(task, node)
        if slot is None:
            continue
        behind = 0 if task.spread_over is None else spread[value_of(node, task.spread_over)]
        cost = (behind, *_cost(occupancy, task, node, slot))
        if best is None or cost < best[0]:
            best = (cost, slot)
    return None if best is None else best[1]


def _is_plain(occupancy: Occupancy, task: Task) -> bool:
    """True when a node's worth for the task depends on its request and that node alone."""
    return (
        task.replicas == 1
        and not task.placed
        and task.spread_over is None
        and task.pack_within is None
        and not occupancy.separated.get(task.id)
    )


def _best_plain_slot(occupancy: Occupancy, task: Task, nodes: tuple[Node, ...]) -> Slot | None:
    """The same answer from memory: equal requests see a node alike until something on it changes.

    Without it each task looks into every node anew, and a queue of 5,000 tasks for 500 nodes takes
    ten times as long.
    """
    selector = tuple(sorted(task.node_selector.items()))
    seen = occupancy.seen.setdefault((task.request, task.gpu_models, selector), {})
    best: Seen = None
    for node in nodes:
        change = occupancy.changes[node.id]
        known = seen.get(node.id)
        if known is None or known[0] != change:
            slot = occupancy.slot_on(task, node)
            found = None if slot is None else (_cost(occupancy, task, node, slot), slot)
            known = seen[node.id] = (change, found)
        if known[1] is not None and (best is None or known[1][0] < best[0]):
            best = known[1]
    return None if best is None else best[1]


def _spread(occupancy: Occupancy, task: Task) -> Counter[Value | None]:
    """Value of ``spread_over`` -> how many replicas it has; empty for a task without."""
    if task.spread_over is None:
        return Counter()
    slots = occupancy.slots.get(task.id, ())
    return Counter(value_of(occupancy.nodes[slot.node], task.spread_over) for slot in slots)


def _cost(occupancy: Occupancy, task: Task, node: Node, slot: Slot) -> tuple[int, ...]:
    """What taking the slot spoils, worst first: new devices opened, the gang's spread, whole
    devices left.
    """
    milli = occupancy.free_milli[node.id]
    opened = sum(milli[device] == 1000 for device in slot.devices)
    left = sum(milli[device] for device in slot.devices)
    free = occupancy.free_devices(node)
    stranger = int(not occupancy.on_node[node.id][task.id]) if task.replicas > 1 else 0
    if task.replicas > 1:  # a gang is better on the emptiest node: more of it fits there
        return (stranger, opened, -free, left, -occupancy.free[node.id]["cpu_milli"])
    return (
        opened,
        left if task.request.is_share else 0,
        free,
        occupancy.free[node.id]["cpu_milli"],
    )


def _is_even(occupancy: Occupancy, task: Task, nodes: tuple[Node, ...]) -> bool:
    """True when the replicas are spread as evenly as the nodes' own sizes allow (model.md, C8)."""
    if task.spread_over is None:
        return True
    counts = _spread(occupancy, task)
    fullest = max(counts.values(), default=0)
    rooms = spread_rooms(task, nodes)
    return all(counts[value] >= min(room, fullest - 1) for value, room in rooms.items())
