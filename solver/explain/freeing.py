"""Which running tasks would have to end, or to move, so that a waiting one fits."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from solver.arrays import Flags, Ints
from solver.explain import fitting
from solver.explain.fitting import Ask
from solver.explain.room import Room, Running
from solver.problem import Task

NODES_TRIED = 4
"""So many nodes are tried for a set of tasks to end, those where it seems to take least first."""
LAID_TRIED = 32
"""For a gang that has to lie in a certain way, so many tasks are tried whose end gives it room."""
MOVERS_TRIED = 24
MOST_ENDED = 16
"""No larger set of tasks is looked for."""

Eligible = Callable[[int], bool]


class Costs(NamedTuple):
    """[T] what it takes to end each running task, and their order, the cheapest first."""

    weight: Ints
    rank: Ints


def costs_of(running: Running) -> Costs:
    """Weight held, then priority, then id (a total order that no hash decides)."""
    tasks = running.tasks
    here = np.flatnonzero(running.replicas).tolist()
    weight = {i: tasks[i].request.weight * int(running.replicas[i]) for i in here}
    here.sort(key=lambda i: (weight[i], tasks[i].priority, tasks[i].id))
    of_task, rank = np.zeros((2, len(tasks)), dtype=np.int64)
    rank[here] = np.arange(len(here))
    of_task[here] = [min(weight[i], 2**53) for i in here]
    return Costs(of_task, rank)


def single_ends(room: Room, ask: Ask, costs: Costs) -> list[int]:
    """Every running task whose end alone makes room, the cheapest first."""
    running = room.running
    if not len(running.task):
        return []
    now = fitting.replicas_now(room, ask)
    after = _after_end(room, ask)
    gain = np.zeros(len(running.tasks), dtype=np.int64)
    np.add.at(gain, running.task, after - now[running.node])
    enough = (running.replicas > 0) & _limits_hold_without(room, ask)
    layout = fitting.layout_of(ask)
    if layout is None or ask.task.fewest == 1:
        found = np.flatnonzero(enough & (int(now.sum()) + gain >= ask.task.fewest))
        return found[np.argsort(costs.rank[found])].tolist()
    fitting_ones = []
    useful = np.flatnonzero(enough & ((gain > 0) | layout.holds(now)))
    for task in useful[np.argsort(costs.rank[useful])][:LAID_TRIED].tolist():
        rooms = now.copy()
        here = slice(running.start[task], running.start[task + 1])
        rooms[running.node[here]] = after[here]
        if layout.holds(rooms):
            fitting_ones.append(task)
    return fitting_ones


def _after_end(room: Room, ask: Ask) -> Ints:
    """[E] the replicas that the entry's node could take once its task has ended."""
    running, ground, request = room.running, room.ground, ask.request
    at = running.node
    open_nodes = ask.matches_selector & ground.schedulable & ask.has_domains
    after = np.where(open_nodes[at], ask.task.replicas, 0)
    near = fitting.strangers(room, ask)
    if near is not None:
        after[near[at] - np.isin(running.task, ask.others) > 0] = 0
    for k, need in ask.needs:
        np.minimum(after, (room.free[k][at] + running.held[k]) // need, out=after)
    if request.gpus:
        device = running.hold_device
        usable = ground.usable(ask.models, healthy_only=True)
        before = np.where(usable, fitting.shares(ask, room.milli, room.memory_mib), 0)
        freed = fitting.shares(
            ask,
            room.milli[device] + running.hold_milli,
            room.memory_mib[device] + running.hold_memory_mib,
        )
        total = ground.sum_per_node(before)[at]
        np.add.at(total, running.hold_entry, np.where(usable[device], freed - before[device], 0))
        np.minimum(after, total // request.gpus, out=after)
    return np.maximum(after, 0)


def _limits_hold_without(room: Room, ask: Ask) -> Flags:
    """[T] tasks without which no limit keeps the waiting one out."""
    running = room.running
    found = np.ones(len(running.tasks), dtype=bool)
    for limit, need, use in room.short_limits(ask.task, ask.task.fewest):
        enough = np.zeros(len(found), dtype=bool)
        enough[[t for t, q in running.charged[limit].items() if use - q + need <= limit.limit]] = (
            True
        )
        found &= enough
    return found


def set_of_ends(
    room: Room, ask: Ask, costs: Costs, *, eligible: Eligible | None = None, most: int = MOST_ENDED
) -> list[int]:
    """A cheap set of running tasks whose ends together make room, none of them in vain; empty
    if none was found.

    Node by node, replica by replica: not the cheapest set there is, but each was tried.
    """
    if fitting.fits(room, ask):
        return []
    if ask.task.fewest == 1:
        ended = _cheapest_on_a_node(room, ask, costs, eligible, most)
    else:
        ended = _ends_for_gang(room, ask, costs, eligible, most)
    without = room.without(ended)
    if not ended or not fitting.fits(without, ask):
        return []
    for task in sorted(ended, key=lambda t: -costs.rank[t]):  # the dearest is given back first
        fewer = [t for t in ended if t != task]
        if len(ended) > 1 and fitting.fits(room.without(fewer), ask):
            ended = fewer
    return sorted(ended, key=lambda t: costs.rank[t])


def _ends_for_gang(
    room: Room, ask: Ask, costs: Costs, eligible: Eligible | None, most: int
) -> list[int]:
    """Makes room for one replica after the other where most of the gang fits already."""
    layout = fitting.layout_of(ask)
    inside: Flags | None = None
    if layout is not None and layout.pack is not None:
        inside = _best_value(layout.pack, fitting.replicas_now(room, ask), ask)
        if inside is None:
            return []
    ended: list[int] = []
    state = room
    while len(ended) < most:
        now = fitting.replicas_now(state, ask)
        if fitting.holds(ask, now):
            return ended
        more = _cheapest_on_a_node(
            state, ask, costs, eligible, most - len(ended), inside=inside, now=now
        )
        if not more:
            return []
        ended += more
        state = room.without(ended)
    return ended


def _best_value(pack: Ints, now: Ints, ask: Ask) -> Flags | None:
    """The nodes of the value that could hold the gang when empty, and holds most of it now."""
    when_empty = fitting.replicas_when_empty(ask)
    best: tuple[int, Flags] | None = None
    for value in np.unique(pack[pack >= 0]).tolist():
        inside = pack == value
        if int(when_empty[inside].sum()) < ask.task.fewest:
            continue
        found = int(now[inside].sum())
        if best is None or found > best[0]:
            best = found, inside
    return None if best is None else best[1]


def _cheapest_on_a_node(
    room: Room,
    ask: Ask,
    costs: Costs,
    eligible: Eligible | None,
    most: int,
    *,
    inside: Flags | None = None,
    now: Ints | None = None,
) -> list[int]:
    """Tasks to end on one node, so that one replica more fits there."""
    now = np.zeros(len(room.ground.nodes), dtype=np.int64) if now is None else now
    open_nodes = fitting.replicas_when_empty(ask) > now
    if inside is not None:
        open_nodes &= inside
    best: tuple[int, list[int]] | None = None
    for node in _least_held(room, ask, open_nodes):
        for ended in _ends_on(room, ask, node, int(now[node]), costs, eligible, most):
            cost = sum(int(costs.weight[t]) for t in ended)
            if best is None or (cost, len(ended)) < (best[0], len(best[1])):
                best = cost, ended
    return [] if best is None else best[1]


def _least_held(room: Room, ask: Ask, open_nodes: Flags) -> list[int]:
    """The nodes where least seems to be in the way: GPU milli of the devices that are held least,
    then the share of the node's own dimensions that is missing.
    """
    ground, gpus = room.ground, ask.request.gpus
    missing = np.zeros(len(open_nodes))
    for k, need in ask.needs:
        missing += np.maximum(0, need - room.free[k]) / need
    held = np.zeros(len(open_nodes), dtype=np.int64)
    if gpus:
        usable = ground.usable(ask.models, healthy_only=True)
        lacking = np.maximum(0, ask.request.gpu_milli - room.milli)
        lacking = np.where(usable, lacking, 2**40)
        owner = np.repeat(np.arange(len(ground.nodes)), ground.devices)
        sums = np.zeros(len(lacking) + 1, dtype=np.int64)
        np.cumsum(lacking[np.lexsort((lacking, owner))], out=sums[1:])
        enough = ground.devices >= gpus
        first = ground.start[:-1][enough]
        held[enough] = sums[first + gpus] - sums[first]
        open_nodes = open_nodes & enough
    nodes = np.flatnonzero(open_nodes)
    order = np.lexsort((nodes, missing[nodes], held[nodes]))
    return nodes[order[:NODES_TRIED]].tolist()


def _ends_on(
    room: Room,
    ask: Ask,
    node: int,
    now: int,
    costs: Costs,
    eligible: Eligible | None,
    most: int,
) -> Iterable[list[int]]:
    """Up to two sets of tasks on the node whose ends make room for one replica more: the smallest
    tasks first, and the least held devices first.
    """
    running = room.running
    place = _Place(room, ask, node)
    entries = [
        e
        for e in running.entries_on(node)
        if not room.gone[running.task[e]] and (eligible is None or eligible(int(running.task[e])))
    ]
    milli = room.milli

    def by_device(entry: int) -> tuple[int, int]:
        devices = running.hold_device[running.holds_of(entry)]
        fullest = int(milli[devices].min()) if len(devices) else 0
        return -fullest, int(costs.rank[running.task[entry]])

    orders: list[list[int]] = [sorted(entries, key=lambda e: costs.rank[running.task[e]])]
    if ask.request.gpus:
        orders.append(sorted(entries, key=by_device))
    for order in orders:
        ended = _shortest_prefix(place, order, now, 4 * most)
        for entry in sorted(ended, key=lambda e: -costs.rank[running.task[e]]):
            if len(ended) > 1 and place.holds_without([e for e in ended if e != entry]) > now:
                ended = [e for e in ended if e != entry]
        if 0 < len(ended) <= most:
            yield [int(running.task[e]) for e in ended]


def _shortest_prefix(place: "_Place", order: Sequence[int], now: int, most: int) -> list[int]:
    """The first entries whose ends make room, found by halving; empty if not even all do."""
    low, high = 1, min(len(order), most)
    if not high or place.holds_without(order[:high]) <= now:
        return []
    while low < high:
        middle = (low + high) // 2
        if place.holds_without(order[:middle]) > now:
            high = middle
        else:
            low = middle + 1
    return list(order[:high])


class _Place:
    """One node: how many replicas it holds when some of its tasks have ended."""

    def __init__(self, room: Room, ask: Ask, node: int) -> None:
        self.room, self.ask, self.node = room, ask, node
        devices = room.ground.devices_of(node)
        self.first = devices.start
        self.usable = room.ground.usable(ask.models, healthy_only=True)[devices]
        self.milli, self.memory_mib = room.milli[devices], room.memory_mib[devices]
        self.free = room.free[:, node].tolist()
        self.others = set(ask.others)

    def holds_without(self, entries: Sequence[int]) -> int:
        running, ask = self.room.running, self.ask
        gone = {int(running.task[e]) for e in entries}
        beside = self.room.running.entries_on(self.node) if self.others else []
        for entry in beside:
            task = int(running.task[entry])
            if task in self.others and task not in gone and not self.room.gone[task]:
                return 0
        most = ask.task.replicas
        for k, need in ask.needs:
            freed = sum(int(running.held[k, e]) for e in entries)
            most = min(most, (self.free[k] + freed) // need)
        if ask.request.gpus:
            milli, memory_mib = self.milli.copy(), self.memory_mib.copy()
            for entry in entries:
                holds = running.holds_of(entry)
                here = running.hold_device[holds] - self.first
                milli[here] += running.hold_milli[holds]
                memory_mib[here] += running.hold_memory_mib[holds]
            found = np.where(self.usable, fitting.shares(ask, milli, memory_mib), 0)
            most = min(most, int(found.sum()) // ask.request.gpus)
        return max(0, most)


class Moves:
    """Running tasks that could go elsewhere, found once for each."""

    def __init__(self, room: Room, ask_of: Callable[[int], Ask]) -> None:
        self.room = room
        self._ask_of = ask_of
        self._elsewhere: dict[int, Flags] = {}
        self._milli_left = room.ground.sum_per_node(room.milli).tolist()

    def may_move(self, task: Task) -> bool:
        """True for tasks that can be moved as a whole: one replica, not against its will."""
        return task.preemptible and task.fewest == 1

    def elsewhere(self, t: int) -> Flags:
        """[N] nodes that have room for the task beside all that runs."""
        if t not in self._elsewhere:
            task = self.room.running.tasks[t]
            found = np.zeros(len(self.room.ground.nodes), dtype=bool)
            if self.may_move(task) and int(self.room.running.replicas[t]) == 1:
                found = fitting.fits_one(self.room, self._ask_of(t))
            self._elsewhere[t] = found
        return self._elsewhere[t]

    def can_leave(self, t: int) -> bool:
        """True when another node than its own has room for the task."""
        found = self.elsewhere(t)
        own = self.room.running.nodes_of(t)
        return int(np.count_nonzero(found)) > int(np.count_nonzero(found[own]))

    def for_task(
        self,
        ask: Ask,
        costs: Costs,
        ends: Sequence[int],
        *,
        most: int,
        eligible: Eligible | None = None,
    ) -> list[tuple[int, int]]:
        """At most so many (task, node to move it to) that make room for a single replica; empty
        if no such moves were found. ``ends`` are tasks whose end alone would do.
        """
        if ask.task.fewest > 1 or self.room.short_limits(ask.task, 1):
            return []
        able = [t for t in ends if eligible is None or eligible(t)]
        for t in able[:MOVERS_TRIED]:
            if self.can_leave(t):
                moved = self._destinations(ask, [t])
                if moved:
                    return moved
        if most < 2:
            return []

        def both(t: int) -> bool:
            return (eligible is None or eligible(t)) and self.can_leave(t)

        pair = set_of_ends(self.room, ask, costs, eligible=both, most=most)
        return self._destinations(ask, pair) if pair else []

    def _destinations(self, ask: Ask, movers: list[int]) -> list[tuple[int, int]]:
        """Where each mover goes, so that the waiting task still finds the room that they leave."""
        left = {int(n) for t in movers for n in self.room.running.nodes_of(t)}
        taken: set[int] = set()
        found = []
        for t in movers:
            nodes = [n for n in np.flatnonzero(self.elsewhere(t)).tolist() if n not in left | taken]
            if not nodes:
                return []
            # The fullest node that holds it: what is left elsewhere stays in one piece.
            node = min(nodes, key=lambda n: (self._milli_left[n], n))
            taken.add(node)
            found.append((t, node))
        if not fitting.fits(self.room.without(movers), ask):
            return []
        return found
