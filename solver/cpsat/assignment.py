"""Between named slots and counted decisions: an answer as values of the variables, and back."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from ortools.sat.python.cp_model import IntVar

from solver.cpsat.layout import DeviceClass, Group, Layout, Pattern, twins
from solver.cpsat.variables import Variables
from solver.problem import Slot, Task

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
        (node, device): (node, index, b)
        for (node, index), devices in by_class.items()
        for b, device in enumerate(devices)
    }


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
    held: set[tuple[int, str]] = set()
    for task, stays in variables.stays.items():
        for stay, slot in zip(stays, layout.group_of[task].task.placed, strict=True):
            if value(stay):
                slots[task].append(slot)
                held |= {(layout.node_index[slot.node], device) for device in slot.devices}
    shared = _name_bins(variables, value, held)
    for group in layout.groups:
        new: list[Slot] = []
        for pattern in group.patterns:
            for _ in range(value(variables.new[group.index, pattern])):
                devices = _take(layout, pattern, shared, held)
                new.append(Slot(node=layout.problem.nodes[pattern.node].id, devices=devices))
        for task in group.tasks:
            while new and len(slots[task.id]) < task.replicas:
                slots[task.id].append(new.pop(0))
    return {task: tuple(found) for task, found in slots.items() if found}


def _name_bins(
    variables: Variables, value: Callable[[IntVar], int], held: set[tuple[int, str]]
) -> dict[tuple[int, int, int], str]:
    """Bin -> the device that it is. A device with shares that stay is always bin 0 of its class."""
    named: dict[tuple[int, int, int], str] = {}
    layout = variables.layout
    used = {
        (pattern.node, pattern.take[0][0], pattern.bin)
        for (_, pattern), decision in variables.new.items()
        if pattern.bin is not None and value(decision)
    }
    for node, index, b in sorted(used, key=str):
        kind = layout.classes[node][index]
        stays_shared = any(layout.group_of[t].task.request.is_share for t, _ in kind.occupants)
        free = [d.id for d in kind.devices if (node, d.id) not in held]
        device = kind.devices[0].id if stays_shared else free[0]
        named[node, index, b or 0] = device
        held.add((node, device))
    return named


def _take(
    layout: Layout,
    pattern: Pattern,
    shared: Mapping[tuple[int, int, int], str],
    held: set[tuple[int, str]],
) -> tuple[str, ...]:
    """The devices that a new replica gets; whole ones are held from then on."""
    if pattern.bin is not None:
        return (shared[pattern.node, pattern.take[0][0], pattern.bin],)
    taken: list[str] = []
    for index, number in pattern.take:
        kind = layout.classes[pattern.node][index]
        free = [d.id for d in kind.devices if (pattern.node, d.id) not in held]
        taken += free[:number]
    held |= {(pattern.node, device) for device in taken}
    return tuple(taken)
