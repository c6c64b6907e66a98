"""The problem as the exact model sees it: interchangeable devices and tasks counted, not named.

Naming them would make the search prove the same thing once for every permutation. Pure: no solver
here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from solver.cpsat.fillings import Filling, Share, fillings, share_of
from solver.deadline import Deadline, OutOfTime
from solver.eligibility import accepts, device_accepts, room_of_empty_node, separated
from solver.links import pair_cost
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Problem, Task

MOST_FILLINGS = 400
"""With more ways than this to fill a device, its shares are placed one by one, in bins."""
POOL = -1
"""The bin of a share in a class whose devices are filled in counted ways."""

Running = tuple[str, int]
"""(task id, index into its ``placed``): one running replica."""


@dataclass(frozen=True)
class DeviceClass:
    """Devices of one node that can be swapped without anyone noticing: same make, peers and
    occupants.
    """

    node: int
    index: int
    devices: tuple[Device, ...]
    occupants: tuple[Running, ...]
    is_broken: bool
    """True for a device that is over-full at the start; it is then alone in its class."""
    copies: int = 1
    """How many equal nodes the node stands for."""

    @property
    def size(self) -> int:
        """The devices of the class, on all nodes that the node stands for."""
        return len(self.devices) * self.copies


@dataclass(frozen=True)
class Pattern:
    """A way for one replica to sit on a node: how many devices of each class, or one bin of one
    class.
    """

    node: int
    take: tuple[tuple[int, int], ...]
    """(class index, devices taken from it); empty for a replica without device."""
    bin: int | None = None
    """For a share: which of the class's shared devices it goes to, or POOL."""
    cost: int = 0
    """How far apart the devices are (model.md, O4)."""


@dataclass(frozen=True)
class Group:
    """One task, or several single-replica tasks that differ in nothing but their ids."""

    index: int
    tasks: tuple[Task, ...]
    patterns: tuple[Pattern, ...]

    @property
    def task(self) -> Task:
        return self.tasks[0]

    @property
    def most(self) -> int:
        """The most replicas that may run."""
        return self.task.replicas * len(self.tasks)

    @property
    def is_gang(self) -> bool:
        return self.task.replicas > 1


@dataclass(frozen=True)
class Layout:
    """Groups, device classes per node, and for each node and dimension nothing that isn't in the
    problem.
    """

    problem: Problem
    groups: tuple[Group, ...]
    classes: tuple[tuple[DeviceClass, ...], ...]
    fillings: dict[tuple[int, int], tuple[Filling, ...]]
    """(node, class) -> the ways to fill one of its devices with shares, where they are few."""
    bins: dict[tuple[int, int], int]
    """(node, class) -> how many of its devices may be shared at once; 0 where fillings do the job.
    """
    apart: dict[str, tuple[str, ...]]
    copies: tuple[int, ...]
    """For each node how many equal ones it stands for; 1 unless nodes are merged (merging.py)."""

    @cached_property
    def is_merged(self) -> bool:
        """True when the layout is a relaxation, in which some nodes stand for several."""
        return any(copies > 1 for copies in self.copies)

    @cached_property
    def size(self) -> int:
        """How many decisions the model has; what its building time grows with."""
        return sum(len(group.patterns) for group in self.groups)

    @cached_property
    def group_of(self) -> dict[str, Group]:
        return {task.id: group for group in self.groups for task in group.tasks}

    @cached_property
    def node_index(self) -> dict[str, int]:
        return {node.id: i for i, node in enumerate(self.problem.nodes)}

    def placed_on(self, group: Group, node: int) -> int:
        """How many replicas of the group's task ran on the node at the start."""
        node_id = self.problem.nodes[node].id
        return sum(slot.node == node_id for slot in group.task.placed)


def lay_out(
    problem: Problem,
    most_patterns: int,
    deadline: Deadline | None = None,
    copies: tuple[int, ...] | None = None,
) -> Layout | None:
    """The layout, or None when it would take more than so many patterns, or longer than there is.

    ``copies`` says for each node how many equal ones it stands for (merging.py).
    """
    copies = copies or (1,) * len(problem.nodes)
    apart = separated(problem)
    families = _families(problem, apart)
    try:
        classes = _classes_by_node(problem, copies, deadline)
        shares = _shares(problem, families, classes, deadline)
        ways = _fillings(classes, shares)
        bins = {
            key: 0 if key in ways else min(kind.size, sum(shares[key].values()))
            for of_node in classes
            for kind in of_node
            for key in [(kind.node, kind.index)]
        }
        groups: list[Group] = []
        left = most_patterns
        for family in families:
            if deadline is not None:
                deadline.enforce()
            patterns = _patterns(problem, family[0], classes, bins, left)
            if patterns is None:
                return None
            left -= len(patterns)
            groups.append(Group(index=len(groups), tasks=family, patterns=patterns))
    except OutOfTime:
        return None
    return Layout(
        problem=problem,
        groups=tuple(groups),
        classes=classes,
        fillings=ways,
        bins=bins,
        apart=apart,
        copies=copies,
    )


def twins(layout: Layout) -> list[list[Group]]:
    """Groups of gangs that differ in nothing but their ids, in lists of two and more."""
    found: dict[object, list[Group]] = defaultdict(list)
    for group in layout.groups:
        if group.is_gang and not group.task.placed and group.task.id not in layout.apart:
            found[_likeness(group.task)].append(group)
    return [alike for alike in found.values() if len(alike) > 1]


def _likeness(task: Task) -> object:
    """Equal for two waiting tasks that only their ids tell apart."""
    return (
        task.queue,
        task.priority,
        task.replicas,
        task.fewest,
        task.request,
        tuple(sorted(task.gpu_models)),
        tuple(sorted((label, tuple(sorted(v))) for label, v in task.node_selector.items())),
        task.pack_within,
        task.spread_over,
    )


def _families(problem: Problem, apart: dict[str, tuple[str, ...]]) -> list[tuple[Task, ...]]:
    families: dict[object, list[Task]] = {}
    for task in problem.tasks:
        alone = task.replicas > 1 or bool(task.placed) or task.id in apart
        families.setdefault(task.id if alone else _likeness(task), []).append(task)
    return [tuple(family) for family in families.values()]


def _occupants(problem: Problem) -> dict[tuple[str, str], tuple[Running, ...]]:
    found: dict[tuple[str, str], list[Running]] = defaultdict(list)
    for task in problem.tasks:
        for i, slot in enumerate(task.placed):
            for device in slot.devices:
                found[slot.node, device].append((task.id, i))
    return {key: tuple(running) for key, running in found.items()}


def _classes_by_node(
    problem: Problem, copies: tuple[int, ...], deadline: Deadline | None
) -> tuple[tuple[DeviceClass, ...], ...]:
    linked = any(task.request.gpus > 1 for task in problem.tasks)
    tasks = {task.id: task for task in problem.tasks}
    occupants = _occupants(problem)
    classes: list[tuple[DeviceClass, ...]] = []
    for i, node in enumerate(problem.nodes):
        if deadline is not None:
            deadline.enforce()
        alike = _alike_devices(node, tasks, occupants, linked=linked)
        classes.append(
            tuple(
                DeviceClass(
                    node=i,
                    index=index,
                    devices=devices,
                    occupants=(held := occupants.get((node.id, devices[0].id), ())),
                    is_broken=_is_overfull(devices[0], held, tasks),
                    copies=copies[i],
                )
                for index, devices in enumerate(alike)
            )
        )
    return tuple(classes)


def _alike_devices(
    node: Node,
    tasks: dict[str, Task],
    occupants: dict[tuple[str, str], tuple[Running, ...]],
    *,
    linked: bool,
) -> list[tuple[Device, ...]]:
    """The node's devices by interchangeability, in the order in which the node lists them."""
    found: list[list[Device]] = []
    for device in node.devices:
        for alike in found:
            if _are_alike(node, alike[0], device, occupants, linked=linked) and not _is_overfull(
                device, occupants.get((node.id, device.id), ()), tasks
            ):
                alike.append(device)
                break
        else:
            found.append([device])
    return [tuple(alike) for alike in found]


def _are_alike(
    node: Node,
    first: Device,
    second: Device,
    occupants: dict[tuple[str, str], tuple[Running, ...]],
    *,
    linked: bool,
) -> bool:
    def make(device: Device) -> object:
        held = occupants.get((node.id, device.id), ())
        return device.model, device.memory_mib, device.healthy, device.active_watts, held

    if make(first) != make(second):
        return False
    return not linked or all(
        pair_cost(first, other) == pair_cost(second, other)
        for other in node.devices
        if other.id not in {first.id, second.id}
    )


def _is_overfull(device: Device, held: tuple[Running, ...], tasks: dict[str, Task]) -> bool:
    requests = [tasks[task].request for task, _ in held]
    milli = sum(request.gpu_milli for request in requests)
    memory_mib = sum(request.gpu_memory_mib for request in requests)
    return milli > WHOLE_DEVICE_MILLI or memory_mib > device.memory_mib


def _shares(
    problem: Problem,
    families: list[tuple[Task, ...]],
    classes: tuple[tuple[DeviceClass, ...], ...],
    deadline: Deadline | None,
) -> dict[tuple[int, int], Counter[Share]]:
    """(node, class) -> how many shares of each size may start or stay there."""
    tasks = {task.id: task for task in problem.tasks}
    sharing = [family for family in families if family[0].request.is_share]
    found: dict[tuple[int, int], Counter[Share]] = {}
    for i, of_node in enumerate(classes):
        if deadline is not None:
            deadline.enforce()
        here = [family for family in sharing if accepts(family[0], problem.nodes[i])]
        for kind in of_node:
            shares = found[i, kind.index] = Counter()
            for family in here:
                if device_accepts(family[0], kind.devices[0]):
                    replicas = family[0].replicas * len(family)
                    shares[share_of(family[0].request)] += replicas
            for task, _ in kind.occupants:
                if tasks[task].request.is_share:
                    shares[share_of(tasks[task].request)] += 1
    return found


def _fillings(
    classes: tuple[tuple[DeviceClass, ...], ...], shares: dict[tuple[int, int], Counter[Share]]
) -> dict[tuple[int, int], tuple[Filling, ...]]:
    """The fillings of each class that has few enough of them; none for an over-full device."""
    known: dict[object, tuple[Filling, ...] | None] = {}
    found = {}
    for of_node in classes:
        for kind in of_node:
            demand = shares[kind.node, kind.index]
            if not demand or kind.is_broken:
                continue
            memory_mib = kind.devices[0].memory_mib
            capped = {s: min(n, WHOLE_DEVICE_MILLI // s[0]) for s, n in demand.items()}
            key = memory_mib, tuple(sorted(capped.items()))
            if key not in known:
                known[key] = fillings(capped, memory_mib, MOST_FILLINGS)
            if (ways := known[key]) is not None:
                found[kind.node, kind.index] = ways
    return found


def _patterns(
    problem: Problem,
    task: Task,
    classes: tuple[tuple[DeviceClass, ...], ...],
    bins: dict[tuple[int, int], int],
    most: int,
) -> tuple[Pattern, ...] | None:
    patterns: list[Pattern] = []
    for i, node in enumerate(problem.nodes):
        if room_of_empty_node(task, node) == 0:
            continue
        usable = [kind for kind in classes[i] if device_accepts(task, kind.devices[0])]
        if not task.request.gpus:
            patterns.append(Pattern(node=i, take=()))
        elif task.request.is_share:
            patterns += [
                Pattern(node=i, take=((kind.index, 1),), bin=b)
                for kind in usable
                for b in (range(bins[i, kind.index]) or (POOL,))
            ]
        else:
            for take in _takes(usable, task.request.gpus):
                patterns.append(Pattern(node=i, take=take, cost=_take_cost(classes[i], take)))
                if len(patterns) > most:
                    return None
        if len(patterns) > most:
            return None
    return tuple(patterns)


def _takes(usable: list[DeviceClass], gpus: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Every way to take so many devices from the classes, as (class index, number) pairs."""
    if gpus == 0:
        yield ()
        return
    if sum(len(kind.devices) for kind in usable) < gpus:
        return
    first, rest = usable[0], usable[1:]
    for number in range(min(len(first.devices), gpus), -1, -1):
        for take in _takes(rest, gpus - number):
            yield ((first.index, number), *take) if number else take


def _take_cost(classes: tuple[DeviceClass, ...], take: tuple[tuple[int, int], ...]) -> int:
    chosen = [device for index, number in take for device in classes[index].devices[:number]]
    return sum(pair_cost(first, second) for first, second in combinations(chosen, 2))
