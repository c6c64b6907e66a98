"""What a set of placements is worth: the objective terms of docs/model.md, (O0) to (O7), as
integers.

Plain counting over the problem and the placements. Part of the specification: no back end is used
here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import assert_never

from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS, NODE_DOMAIN, TermName
from solver.plan import ObjectiveValue, Placement, Plan
from solver.problem import WHOLE_DEVICE_MILLI, Node, Problem, Slot, Task

Slots = Mapping[str, tuple[Slot, ...]]
"""Task id -> the slots of its running replicas; a task that doesn't run is absent or empty."""


def score(problem: Problem, plan: Plan) -> tuple[ObjectiveValue, ...]:
    """The plan's objective, term by term in the problem's order; ``placed`` has one entry a
    priority level.

    >>> from solver import Budget, Node, Problem, Task, check, solve
    >>> tasks = (Task(id="a", priority=5, replicas=3), Task(id="b"))
    >>> budget = Budget(deterministic=True)
    >>> problem = Problem(version=1, nodes=(Node(id="n1"),), tasks=tasks, budget=budget)
    >>> entries = check.score(problem, solve(problem))
    >>> [(entry.name, entry.level, entry.value) for entry in entries[:3]]
    [('placed', 5, 3), ('placed', 0, 1), ('disruption', None, 0)]
    """
    return score_slots(problem, slots_after(plan.placements))


def score_slots(problem: Problem, after: Slots) -> tuple[ObjectiveValue, ...]:
    """The objective of these slots. They have to name nodes and devices of the problem."""
    return tuple(entry for term in terms_of(problem) for entry in _entries(term, problem, after))


def terms_of(problem: Problem) -> tuple[TermName, ...]:
    """The terms in their order: those that the problem names, after ``repair`` if its start is
    broken.
    """
    named = tuple(map(TermName, problem.objective))
    return (TermName.REPAIR, *named) if repair(problem, slots_before(problem)) else named


def slots_after(placements: Iterable[Placement]) -> dict[str, tuple[Slot, ...]]:
    """The placements by task id."""
    return {placement.task: placement.replicas for placement in placements}


def slots_before(problem: Problem) -> dict[str, tuple[Slot, ...]]:
    """What runs at the start, by task id."""
    return {task.id: task.placed for task in problem.tasks if task.placed}


def kept(task: Task, after: tuple[Slot, ...]) -> int:
    """How many of the task's running replicas stay exactly where they are."""
    if not task.placed or task.placed == after:
        return len(task.placed)
    before = Counter(slot.key for slot in task.placed)
    return (before & Counter(slot.key for slot in after)).total()


def is_touched(task: Task, after: tuple[Slot, ...]) -> bool:
    """True when a running replica of the task is stopped, to start elsewhere or not at all."""
    return kept(task, after) < len(task.placed)


def levels(problem: Problem) -> tuple[int, ...]:
    """The priority levels of the problem's tasks, highest first."""
    return tuple(sorted({task.priority for task in problem.tasks}, reverse=True))


def _entries(term: TermName, problem: Problem, after: Slots) -> tuple[ObjectiveValue, ...]:
    if term is TermName.PLACED:
        return tuple(
            ObjectiveValue(name=term.value, value=value, level=level)
            for level, value in placed(problem, after).items()
        )
    return (ObjectiveValue(name=term.value, value=_cost(term, problem, after)),)


def _cost(term: TermName, problem: Problem, after: Slots) -> int:
    match term:
        case TermName.REPAIR:
            return repair(problem, after)
        case TermName.DISRUPTION:
            return disruption(problem, after)
        case TermName.FRAGMENTATION:
            return fragmentation(problem, after)
        case TermName.LOCALITY:
            return locality(problem, after)
        case TermName.BALANCE:
            return balance(problem, after)
        case TermName.PACK:
            return len(_nodes_in_use(after))
        case TermName.POWER:
            return power(problem, after)
        case TermName.PLACED:
            raise AssertionError("placed is no cost")
        case _:
            assert_never(term)


def repair(problem: Problem, after: Slots) -> int:
    """(O0) How many capacities are exceeded, gangs too small and separate tasks together."""
    tasks = {task.id: task for task in problem.tasks}
    short = sum(0 < len(slots) < tasks[task].fewest for task, slots in after.items())
    return short + broken_places(problem, after)


def broken_places(problem: Problem, after: Slots) -> int:
    """The part of (O0) that only tasks which leave a node or device can mend."""
    tasks = {task.id: task for task in problem.tasks}
    free = {
        (node.id, name): getattr(node, name) for node in problem.nodes for name in NODE_DIMENSIONS
    }
    milli: Counter[tuple[str, str]] = Counter()
    memory_mib: Counter[tuple[str, str]] = Counter()
    nodes_of: defaultdict[str, set[str]] = defaultdict(set)
    for task_id, slots in after.items():
        request = tasks[task_id].request
        needs = [(name, need) for name in NODE_DIMENSIONS if (need := getattr(request, name))]
        for slot in slots:
            nodes_of[task_id].add(slot.node)
            for name, need in needs:
                free[slot.node, name] -= need
            for device in slot.devices:
                milli[slot.node, device] += request.gpu_milli
                memory_mib[slot.node, device] += request.gpu_memory_mib
    broken = sum(left < 0 for left in free.values())
    for node in problem.nodes:
        for device in node.devices:
            if held := milli[node.id, device.id]:
                broken += held > WHOLE_DEVICE_MILLI
                broken += memory_mib[node.id, device.id] > device.memory_mib
    pairs = {
        (min(task.id, other), max(task.id, other))
        for task in problem.tasks
        for other in task.separate_from
    }
    return broken + sum(len(nodes_of[first] & nodes_of[second]) for first, second in pairs)


def placed(problem: Problem, after: Slots) -> dict[int, int]:
    """(O1) Priority level -> the sum of weights of its placed replicas, highest level first."""
    value = dict.fromkeys(levels(problem), 0)
    for task in problem.tasks:
        value[task.priority] += task.request.weight * len(after.get(task.id, ()))
    return value


def disruption(problem: Problem, after: Slots) -> int:
    """(O2) The sum of ``move_cost`` over moved tasks and of ``evict_cost`` over evicted ones."""
    cost = 0
    for task in problem.tasks:
        slots = after.get(task.id, ())
        if is_touched(task, slots):
            cost += task.move_cost if slots else task.evict_cost
    return cost


def fragmentation(problem: Problem, after: Slots) -> int:
    """(O3) GPU milli left free on devices that are in use."""
    use = _milli_in_use(problem, after)
    return sum(max(0, WHOLE_DEVICE_MILLI - milli) for milli in use.values())


def locality(problem: Problem, after: Slots) -> int:
    """(O4) How far gangs spread over domains, and how far apart a replica's devices are."""
    nodes = {node.id: node for node in problem.nodes}
    domains = domain_names(problem)
    cost = 0
    for slots in after.values():
        if len(slots) > 1:
            used = [nodes[slot.node] for slot in slots]
            for domain in domains:
                cost += len({domain_value(node, domain, own=True) for node in used}) - 1
        cost += sum(_slot_cost(nodes[slot.node], slot) for slot in slots)
    return cost


def balance(problem: Problem, after: Slots) -> int:
    """(O5) The load of the fullest node in percent: of its devices in use, or of its CPU where it
    has none.

    Rounded up: to whole percents of the devices, to steps of ten percent of the CPU.
    """
    use = _milli_in_use(problem, after)
    devices = Counter(node for node, _ in use)
    requests = {task.id: task.request for task in problem.tasks}
    cpu_milli: Counter[str] = Counter()
    for task, slots in after.items():
        for slot in slots:
            cpu_milli[slot.node] += requests[task].cpu_milli
    return max(
        (_load_percent(node, devices[node.id], cpu_milli[node.id]) for node in problem.nodes),
        default=0,
    )


def power(problem: Problem, after: Slots) -> int:
    """(O7) Watts: ``idle_watts`` of each node in use and ``active_watts`` of each device in use."""
    in_use = _nodes_in_use(after)
    used = set(_milli_in_use(problem, after))
    return sum(
        node.idle_watts
        + sum(device.active_watts for device in node.devices if (node.id, device.id) in used)
        for node in problem.nodes
        if node.id in in_use
    )


def domain_names(problem: Problem) -> tuple[str, ...]:
    """Every domain of the problem, ``node`` first."""
    named = {name for node in problem.nodes for name in node.domains}
    return (NODE_DOMAIN, *sorted(named))


def domain_value(node: Node, domain: str, *, own: bool = False) -> tuple[str, str] | None:
    """The node's value of a domain; None (or a value of its ``own``) where it has none."""
    if domain == NODE_DOMAIN:
        return NODE_DOMAIN, node.id
    if domain in node.domains:
        return domain, node.domains[domain]
    return (NODE_DOMAIN, node.id) if own else None


def _slot_cost(node: Node, slot: Slot) -> int:
    devices = [device for device in node.devices if device.id in slot.devices]
    return sum(pair_cost(first, second) for first, second in combinations(devices, 2))


def _load_percent(node: Node, devices_in_use: int, cpu_milli: int) -> int:
    if node.devices:
        return -(-100 * devices_in_use // len(node.devices))
    if node.cpu_milli:
        return 10 * -(-10 * cpu_milli // node.cpu_milli)
    return 0


def _nodes_in_use(after: Slots) -> set[str]:
    return {slot.node for slots in after.values() for slot in slots}


def _milli_in_use(problem: Problem, after: Slots) -> dict[tuple[str, str], int]:
    """(node, device) -> GPU milli held there, for the devices in use."""
    share = {task.id: task.request.gpu_milli for task in problem.tasks}
    use: dict[tuple[str, str], int] = defaultdict(int)
    for task, slots in after.items():
        for slot in slots:
            for device in slot.devices:
                use[slot.node, device] += share[task]
    return use
