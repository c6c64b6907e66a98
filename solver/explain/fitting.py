"""Whether a task fits into some room, with all rules in force or with some of them lifted."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from solver.arrays import Flags, Ints
from solver.explain.ground import Ground, needs_of
from solver.explain.room import Room
from solver.objective import NODE_DOMAIN
from solver.problem import WHOLE_DEVICE_MILLI, Task

UNSCHEDULABLE, SELECTOR, MODEL, TOPOLOGY, CAPACITY = LIFTABLE = (1, 2, 4, 8, 16)
"""Sets of rules are sums of these (model.md, W1)."""
GANG = 32
CORDON = 64
"""The part of UNSCHEDULABLE that is about nodes, not about devices."""
NOTHING = 0
MOST_TABLES = 128
"""So many counts of [N] are remembered for a room; device memory of many sizes asks for more."""


class Ask:
    """What a task asks for, beside what the cluster has."""

    def __init__(self, ground: Ground, task: Task, others: Iterable[int] = ()) -> None:
        self.ground = ground
        self.task = task
        self.others = tuple(others)
        """The tasks that it is separate from, whichever of the two says so."""
        self.request = task.request
        self.models = task.gpu_models if task.request.gpus else ()

    @cached_property
    def needs(self) -> list[tuple[int, int]]:
        """(dimension's index, quantity) for what a replica needs of a node."""
        return needs_of(self.task)

    @cached_property
    def matches_selector(self) -> Flags:
        return self.ground.matches_selector(self.task.node_selector)

    @cached_property
    def has_domains(self) -> Flags:
        return self.ground.has_domains(self.task)

    @property
    def relevant(self) -> list[int]:
        """Rules of which lifting could change anything at all."""
        task, ground = self.task, self.ground
        unhealthy = ground.has_unhealthy and task.request.gpus
        here = {
            UNSCHEDULABLE: unhealthy or not ground.schedulable.all(),
            SELECTOR: bool(task.node_selector),
            MODEL: bool(self.models),
            TOPOLOGY: bool(task.pack_within or task.spread_over or self.others),
            CAPACITY: True,
        }
        return [rule for rule in LIFTABLE if here[rule]]


def strangers(room: Room, ask: Ask) -> Ints | None:
    """[N] how many tasks run there that this one is separate from; None if it names none."""
    others = [other for other in ask.others if not room.gone[other]]
    if not others:
        return None
    found = np.zeros(len(ask.ground.nodes), dtype=np.int64)
    for other in others:
        found[room.running.nodes_of(other)] += 1
    return found


def allowed(room: Room, ask: Ask, lifted: int = NOTHING) -> Flags:
    """[N] nodes that take a replica, their room and devices aside."""
    found = ask.matches_selector
    if lifted & SELECTOR:
        found = np.ones_like(found)
    if not lifted & (UNSCHEDULABLE | CORDON):
        found = found & ask.ground.schedulable
    if not lifted & TOPOLOGY:
        found = found & ask.has_domains
        near = strangers(room, ask)
        if near is not None:
            found = found & (near == 0)
    return found


def is_short(room: Room, ask: Ask) -> Flags:
    """[N] nodes without the cpu, memory, disk or network for one replica."""
    short = np.zeros(len(ask.ground.nodes), dtype=bool)
    for k, need in ask.needs:
        short |= room.free[k] < need
    return short


def has_devices(room: Room, ask: Ask, lifted: int = NOTHING) -> Flags:
    """[N] nodes with the free devices for one replica."""
    request = ask.request
    if not request.gpus:
        return np.ones(len(ask.ground.nodes), dtype=bool)
    if request.is_share:
        return most_milli(room, ask, lifted) >= request.gpu_milli
    return whole_devices(room, ask, lifted) >= request.gpus


def whole_devices(room: Room, ask: Ask, lifted: int = NOTHING) -> Ints:
    """[N] how many free whole devices the task could hold there."""
    return _table(room, ask, lifted, whole=True)


def most_milli(room: Room, ask: Ask, lifted: int = NOTHING) -> Ints:
    """[N] the largest share of one device that the task could hold there."""
    return _table(room, ask, lifted, whole=False)


def _table(room: Room, ask: Ask, lifted: int, *, whole: bool) -> Ints:
    models = () if lifted & MODEL else ask.models
    key = models, ask.request.gpu_memory_mib, bool(lifted & UNSCHEDULABLE), whole
    found = room.tables.get(key)
    if found is None:
        usable = usable_devices(room, ask, lifted)
        if whole:
            found = ask.ground.sum_per_node(usable & (room.milli >= WHOLE_DEVICE_MILLI))
        else:
            found = ask.ground.most_per_node(np.where(usable, room.milli, 0))
        if len(room.tables) >= MOST_TABLES:
            room.tables.clear()
        room.tables[key] = found
    return found


def usable_devices(room: Room, ask: Ask, lifted: int = NOTHING) -> Flags:
    """[D] devices of the models, healthy, with the device memory; their milli isn't looked at."""
    models = () if lifted & MODEL else ask.models
    usable = ask.ground.usable(models, healthy_only=not lifted & UNSCHEDULABLE)
    memory_mib = ask.request.gpu_memory_mib
    return usable & (room.memory_mib >= memory_mib) if memory_mib else usable


def could_have_devices(ask: Ask, lifted: int = NOTHING) -> Flags:
    """[N] nodes whose devices would do if there were room: enough of them, or all that there
    are, are healthy and of the models, and one at least if models are named.
    """
    ground, gpus = ask.ground, ask.request.gpus
    models = () if lifted & MODEL else ask.models
    found = ground.usable_count(models, healthy_only=not lifted & UNSCHEDULABLE)
    wanted = np.minimum(gpus, ground.devices)
    return found >= (np.maximum(wanted, 1) if models else wanted)


def fits_one(room: Room, ask: Ask, lifted: int = NOTHING) -> Flags:
    """[N] nodes where one replica could start, room in queues aside."""
    fits = allowed(room, ask, lifted)
    if lifted & CAPACITY:
        return fits & could_have_devices(ask, lifted)
    return fits & ~is_short(room, ask) & has_devices(room, ask, lifted)


def replicas_now(room: Room, ask: Ask, lifted: int = NOTHING) -> Ints:
    """[N] how many replicas could start on each node beside all that runs."""
    most = np.where(allowed(room, ask, lifted), ask.task.replicas, 0)
    for k, need in ask.needs:
        np.minimum(most, room.free[k] // need, out=most)
    if ask.request.gpus:
        per_device = np.where(
            usable_devices(room, ask, lifted), shares(ask, room.milli, room.memory_mib), 0
        )
        np.minimum(most, ask.ground.sum_per_node(per_device) // ask.request.gpus, out=most)
    return np.maximum(most, 0)


def shares(ask: Ask, milli: Ints, memory_mib: Ints) -> Ints:
    """How many replicas devices with this much left could hold; below 0 on an over-full one."""
    found = milli // ask.request.gpu_milli
    if ask.request.gpu_memory_mib:
        found = np.minimum(found, memory_mib // ask.request.gpu_memory_mib)
    return np.maximum(found, 0)


def replicas_when_empty(ask: Ask, lifted: int = NOTHING) -> Ints:
    """[N] how many replicas each node could hold if nothing else ran on it (model.md, C8)."""
    ground, request = ask.ground, ask.request
    found = np.full(len(ground.nodes), ask.task.replicas, dtype=np.int64)
    if not lifted & (UNSCHEDULABLE | CORDON):
        found[~ground.schedulable] = 0
    if not lifted & SELECTOR:
        found[~ask.matches_selector] = 0
    if not lifted & TOPOLOGY:
        found[~ask.has_domains] = 0
    for k, need in ask.needs:
        np.minimum(found, ground.capacity[k] // need, out=found)
    if request.gpus:
        models = () if lifted & MODEL else ask.models
        usable = ground.usable(models, healthy_only=not lifted & UNSCHEDULABLE)
        whole = np.full_like(ground.memory_mib, WHOLE_DEVICE_MILLI)
        per_device = np.where(usable, shares(ask, whole, ground.memory_mib), 0)
        np.minimum(found, ground.sum_per_node(per_device) // request.gpus, out=found)
    if lifted & CAPACITY:  # a node that is too small counts as one that just holds a replica
        here = could_have_devices(ask, lifted)
        if not lifted & UNSCHEDULABLE:
            here = here & ground.schedulable
        if not lifted & SELECTOR:
            here = here & ask.matches_selector
        if not lifted & TOPOLOGY:
            here = here & ask.has_domains
        found = np.where(here, np.maximum(found, 1), 0)
    return found


def rooms(room: Room, ask: Ask, lifted: int = NOTHING) -> Ints:
    """[N] how many replicas each node would hold with these rules lifted."""
    if not lifted & CAPACITY:
        return replicas_now(room, ask, lifted)
    return np.where(allowed(room, ask, lifted), replicas_when_empty(ask, lifted), 0)


class Layout:
    """Where a gang's replicas may be together: the values of its domains, by node."""

    def __init__(self, ask: Ask, when_empty: Ints | None) -> None:
        task, ground = ask.task, ask.ground
        self.task = task
        self.pack = None if task.pack_within is None else ground.values_of(task.pack_within)
        self.spread = None if task.spread_over is None else ground.values_of(task.spread_over)
        if task.pack_within in {task.spread_over, NODE_DOMAIN}:
            self.spread = None  # one value is spread evenly over itself
        if when_empty is None:  # read only for a gang that is spread
            when_empty = np.zeros(len(ground.nodes), dtype=np.int64)
        self.when_empty = when_empty

    def holds(self, rooms: Ints) -> bool:
        """True when the gang fits on nodes with room for so many replicas each."""
        fewest = self.task.fewest
        if self.pack is None:
            return self.spread is None or self._holds_spread(self.spread, rooms)
        totals = _per_value(self.pack, rooms)
        if self.spread is None:
            return int(totals.max(initial=0)) >= fewest
        return any(
            self._holds_spread(np.where(self.pack == value, self.spread, -1), rooms)
            for value in np.flatnonzero(totals >= fewest)
        )

    def _holds_spread(self, values: Ints, rooms: Ints) -> bool:
        """(C8) With F replicas in the fullest value each has at most F, and at least
        min(its room when empty, F - 1).
        """
        now, empty = _per_value(values, rooms), _per_value(values, self.when_empty)
        # The smallest F that holds the fewest: a larger one only asks more of the other values.
        fullest, high = 1, self.task.replicas
        if int(np.minimum(now, high).sum()) < self.task.fewest:
            return False
        while fullest < high:
            middle = (fullest + high) // 2
            if int(np.minimum(now, middle).sum()) >= self.task.fewest:
                high = middle
            else:
                fullest = middle + 1
        least = np.minimum(empty, fullest - 1)
        return bool((least <= now).all()) and int(least.sum()) <= self.task.replicas


def _per_value(values: Ints, rooms: Ints) -> Ints:
    here = values >= 0
    total = np.zeros(int(values.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(total, values[here], rooms[here])
    return total


def layout_of(ask: Ask, lifted: int = NOTHING) -> Layout | None:
    """How the gang has to lie; None for one of which only the number of replicas counts."""
    task = ask.task
    if lifted & TOPOLOGY or (task.pack_within is None and task.spread_over is None):
        return None
    empty = None if task.spread_over is None else replicas_when_empty(ask, lifted)
    return Layout(ask, empty)


def gang_fits(room: Room, ask: Ask, lifted: int = NOTHING) -> bool:
    """True when the fewest replicas that may run could start together, room in queues aside."""
    if ask.task.fewest == 1:
        return bool(fits_one(room, ask, lifted).any())
    return holds(ask, rooms(room, ask, lifted), lifted)


def holds(ask: Ask, found: Ints, lifted: int = NOTHING) -> bool:
    """True when the gang fits on nodes with so much room each."""
    layout = layout_of(ask, lifted)
    if layout is None:
        return int(found.sum()) >= ask.task.fewest
    return layout.holds(found)


def fits(room: Room, ask: Ask) -> bool:
    """True when the task could start here as it is."""
    return not room.short_limits(ask.task, ask.task.fewest) and gang_fits(room, ask)
