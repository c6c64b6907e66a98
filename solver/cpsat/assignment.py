"""Between named slots and counted decisions: an answer as values of the variables, and back."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from ortools.sat.python.cp_model import IntVar

from solver.cpsat.fillings import Share, covers, share_of
from solver.cpsat.layout import POOL, DeviceClass, Group, Layout, Pattern, twins
from solver.cpsat.variables import Variables
from solver.problem import Request, Slot, Task

Answer = Mapping[str, tuple[Slot, ...]]


def hint_from(variables: Variables, answer: Answer) -> list[tuple[IntVar, int]]:
    """A value for each decision, so that the model stands where the answer does."""
    layout = variables.layout
    answer = _ordered_twins(layout, answer)
    hint: list[tuple[IntVar, int]] = []
    new: dict[str, list[Slot]] = {}
    for group in layout.groups:
        for task in group.tasks:
            stays, new[task.id] = _split(task, answer.get(task.id, ()))
            hint += zip(variables.stays.get(task.id, ()), stays, strict=True)
    bins = _bins_of(layout, answer)
    counts: Counter[tuple[int, Pattern]] = Counter()
    for group in layout.groups:
        for task in group.tasks:
            for slot in new[task.id]:
                counts[group.index, _pattern_of(layout, group, slot, bins)] += 1
    hint += [(decision, counts[key]) for key, decision in variables.new.items()]
    hint += _filled_hint(variables, answer)
    is_open = set(bins.values())
    hint += [(literal, int(key in is_open)) for key, literal in variables.open.items()]
    return hint


def _ordered_twins(layout: Layout, answer: Answer) -> Answer:
    """The same answer with the slots of gangs that are alike handed to the first of them first."""
    ordered = dict(answer)
    for alike in twins(layout):
        ids = [group.task.id for group in alike]
        by_size = sorted((answer.get(task, ()) for task in ids), key=len, reverse=True)
        ordered.update(zip(ids, by_size, strict=True))
    return ordered


def _split(task: Task, slots: tuple[Slot, ...]) -> tuple[list[int], list[Slot]]:
    """For each running replica whether it stays, and the slots that are new."""
    left = Counter(slot.key for slot in slots)
    stays = []
    for slot in task.placed:
        stays.append(int(left[slot.key] > 0))
        left[slot.key] -= stays[-1]
    new = []
    for slot in slots:
        if left[slot.key] > 0:
            left[slot.key] -= 1
            new.append(slot)
    return stays, new


def _class_of(layout: Layout, node: int, device: str) -> DeviceClass:
    return next(
        kind for kind in layout.classes[node] if any(member.id == device for member in kind.devices)
    )


def _bins_of(layout: Layout, answer: Answer) -> dict[tuple[int, str], tuple[int, int, int]]:
    """(node, device) of each shared device -> its (node, class, bin); fuller devices in earlier
    bins.
    """
    milli: Counter[tuple[int, str]] = Counter()
    for group in layout.groups:
        if group.task.request.is_share:
            for task in group.tasks:
                for slot in answer.get(task.id, ()):
                    where = layout.node_index[slot.node], slot.devices[0]
                    milli[where] += task.request.gpu_milli
    by_class: dict[tuple[int, int], list[str]] = defaultdict(list)
    for node, device in sorted(milli, key=lambda where: (-milli[where], where)):
        by_class[node, _class_of(layout, node, device).index].append(device)
    return {
        (node, device): (node, index, POOL if (node, index) in layout.fillings else b)
        for (node, index), devices in by_class.items()
        for b, device in enumerate(devices)
    }


def _filled_hint(variables: Variables, answer: Answer) -> list[tuple[IntVar, int]]:
    """For each shared device one filling that covers what the answer puts there."""
    layout = variables.layout
    content: dict[tuple[int, str], Counter[Share]] = defaultdict(Counter)
    for group in layout.groups:
        if group.task.request.is_share:
            for task in group.tasks:
                for slot in answer.get(task.id, ()):
                    where = layout.node_index[slot.node], slot.devices[0]
                    content[where][share_of(task.request)] += 1
    chosen: Counter[tuple[int, int, int]] = Counter()
    for (node, device), shares in content.items():
        index = _class_of(layout, node, device).index
        ways = layout.fillings.get((node, index), ())
        covering = (i for i, filling in enumerate(ways) if covers(filling, shares))
        chosen[node, index, next(covering, 0)] += 1
    return [
        (count, chosen[node, index, i])
        for (node, index), filled in variables.filled.items()
        for i, count in enumerate(filled)
    ]


def _pattern_of(
    layout: Layout,
    group: Group,
    slot: Slot,
    bins: Mapping[tuple[int, str], tuple[int, int, int]],
) -> Pattern:
    node = layout.node_index[slot.node]
    if group.task.request.is_share:
        _, index, b = bins[node, slot.devices[0]]
        take: tuple[tuple[int, int], ...] = ((index, 1),)
    else:
        counts = Counter(_class_of(layout, node, device).index for device in slot.devices)
        take, b = tuple(sorted(counts.items())), None
    return next(
        pattern
        for pattern in group.patterns
        if pattern.node == node and pattern.take == take and pattern.bin == b
    )


def answer_from(
    variables: Variables, value: Callable[[IntVar], int]
) -> dict[str, tuple[Slot, ...]]:
    """Named slots for the solution that ``value`` reads, the same ones every time."""
    layout = variables.layout
    slots: dict[str, list[Slot]] = {task.id: [] for task in layout.problem.tasks}
    naming = _Naming(variables, value)
    for task, stays in variables.stays.items():
        for stay, slot in zip(stays, layout.group_of[task].task.placed, strict=True):
            if value(stay):
                slots[task].append(slot)
    for group in layout.groups:
        new: list[Slot] = []
        for pattern in group.patterns:
            for _ in range(value(variables.new[group.index, pattern])):
                devices = naming.take(group.task.request, pattern)
                new.append(Slot(node=layout.problem.nodes[pattern.node].id, devices=devices))
        for task in group.tasks:
            while new and len(slots[task.id]) < task.replicas:
                slots[task.id].append(new.pop(0))
    return {task: tuple(found) for task, found in slots.items() if found}


class _Naming:
    """Which device is which: counted ones get names, and nothing that stays loses its own."""

    def __init__(self, variables: Variables, value: Callable[[IntVar], int]) -> None:
        self.variables = variables
        self.layout = variables.layout
        self.value = value
        self.held: set[tuple[int, str]] = set()
        self.bins: dict[tuple[int, int, int], str] = {}
        self.pools: dict[tuple[int, int], list[tuple[str, Counter[Share]]]] = {}
        for task, stays in variables.stays.items():
            for stay, slot in zip(stays, self.layout.group_of[task].task.placed, strict=True):
                if value(stay):
                    node = self.layout.node_index[slot.node]
                    self.held |= {(node, device) for device in slot.devices}
        self._name_bins()
        self._name_pools()

    def take(self, request: Request, pattern: Pattern) -> tuple[str, ...]:
        """The devices that a new replica gets; whole ones are held from then on."""
        if pattern.bin == POOL:
            share = share_of(request)
            for device, room in self.pools[pattern.node, pattern.take[0][0]]:
                if room[share]:
                    room[share] -= 1
                    return (device,)
        if pattern.bin is not None:
            return (self.bins[pattern.node, pattern.take[0][0], pattern.bin],)
        taken: list[str] = []
        for index, number in pattern.take:
            taken += self._free(self.layout.classes[pattern.node][index])[:number]
        self.held |= {(pattern.node, device) for device in taken}
        return tuple(taken)

    def _free(self, kind: DeviceClass) -> list[str]:
        return [d.id for d in kind.devices if (kind.node, d.id) not in self.held]

    def _name_for_shares(self, kind: DeviceClass) -> str:
        """A free device, or the only one where shares may stay; held from then on."""
        groups = self.layout.group_of
        stays_shared = any(groups[task].task.request.is_share for task, _ in kind.occupants)
        device = kind.devices[0].id if stays_shared else self._free(kind)[0]
        self.held.add((kind.node, device))
        return device

    def _name_bins(self) -> None:
        used = {
            (pattern.node, pattern.take[0][0], pattern.bin)
            for (_, pattern), decision in self.variables.new.items()
            if pattern.bin is not None and pattern.bin != POOL and self.value(decision)
        }
        for node, index, b in sorted(used):
            self.bins[node, index, b] = self._name_for_shares(self.layout.classes[node][index])

    def _name_pools(self) -> None:
        for (node, index), ways in self.layout.fillings.items():
            kind = self.layout.classes[node][index]
            filled = self.variables.filled[node, index]
            pool: list[tuple[str, Counter[Share]]] = []
            for filling, count in zip(ways, filled, strict=True):
                pool += [
                    (self._name_for_shares(kind), Counter(dict(filling)))
                    for _ in range(self.value(count))
                ]
            for task, i in kind.occupants:
                request = self.layout.group_of[task].task.request
                if request.is_share and self.value(self.variables.stays[task][i]):
                    pool[0][1][share_of(request)] -= 1
            self.pools[node, index] = pool
