"""Why a task waits, by trying it out: rules are lifted one set after the other, and every way of
placing the task is judged by the specification (model.md, W1).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations, combinations_with_replacement, product

from solver.check import queue_request, slot_violations
from solver.plan import Fix, FixKind, ReasonCode
from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task
from solver.score import is_touched

Answer = Mapping[str, tuple[Slot, ...]]
Rules = frozenset[ReasonCode]

UNSCHEDULABLE = ReasonCode.UNSCHEDULABLE_NODES
SELECTOR = ReasonCode.NO_MATCHING_NODE
MODEL = ReasonCode.NO_MATCHING_MODEL
TOPOLOGY = ReasonCode.TOPOLOGY
CAPACITY = ReasonCode.NO_CAPACITY
LIFTABLE = (UNSCHEDULABLE, SELECTOR, MODEL, TOPOLOGY, CAPACITY)
SIZES = ("cpu_milli", "memory_mib", "disk_mib", "network_mbps")
FREELY = Budget(deterministic=True)


def final_state(problem: Problem, answer: Answer, waiting: str) -> Problem:
    """The plan's end as a start: what runs, and of what waits only this task."""
    kept = {task.id for task in problem.tasks if answer.get(task.id)} | {waiting}
    tasks = tuple(
        replace(
            task,
            placed=() if task.id == waiting else answer[task.id],
            separate_from=tuple(other for other in task.separate_from if other in kept),
        )
        for task in problem.tasks
        if task.id in kept
    )
    return replace(problem, tasks=tasks, budget=FREELY)


def task_of(problem: Problem, name: str) -> Task:
    return next(task for task in problem.tasks if task.id == name)


def ways(problem: Problem, task: Task, nodes: Iterable[str] | None = None) -> Iterator[Answer]:
    """Every multiset of slots with enough replicas of the task, on these nodes."""
    slots = [
        Slot(node=node.id, devices=devices)
        for node in problem.nodes
        if nodes is None or node.id in set(nodes)
        for devices in combinations([d.id for d in node.devices], task.request.gpus)
    ]
    for count in range(task.fewest, task.replicas + 1):
        for chosen in combinations_with_replacement(slots, count):
            yield {task.id: chosen}


def running(problem: Problem) -> dict[str, tuple[Slot, ...]]:
    return {task.id: task.placed for task in problem.tasks if task.placed}


def fits(problem: Problem, name: str, small: frozenset[str] = frozenset()) -> bool:
    """True when the task can be placed beside all that runs; at most once on ``small`` nodes."""
    beside = running(problem)
    for way in ways(problem, task_of(problem, name)):
        used = [slot.node for slot in way[name] if slot.node in small]
        if len(used) == len(set(used)) and not slot_violations(problem, {**beside, **way}):
            return True
    return False


def codes(problem: Problem, answer: Answer, name: str) -> set[ReasonCode]:
    """The reasons that are about rules: all but lower_priority and moves_exhausted."""
    start = final_state(problem, answer, name)
    task = task_of(start, name)
    free = replace(start, queues=_without_limits(start.queues))
    sets = [
        frozenset(rules) for n in range(len(LIFTABLE) + 1) for rules in combinations(LIFTABLE, n)
    ]
    known: dict[tuple[bool, object], bool] = {}
    whole = {rules for rules in sets if _fits_lifted(free, task, rules, known)}
    found = set().union(*_smallest(whole))
    if task.fewest > 1:
        single = replace(task, replicas=1, min_replicas=1)
        alone = {rules for rules in sets if _fits_lifted(free, single, rules, known)}
        for rules in _smallest(alone):
            if rules | {TOPOLOGY} not in whole:
                found |= rules | {ReasonCode.GANG_DOES_NOT_FIT}
    if exceeds_limit(start, name):
        found.add(ReasonCode.QUEUE_LIMIT)
    return found


def _smallest(sets: set[Rules]) -> list[Rules]:
    return [rules for rules in sets if not any(other < rules for other in sets)]


def _without_limits(queues: tuple[Queue, ...]) -> tuple[Queue, ...]:
    return tuple(replace(queue, limit={}) for queue in queues)


def _fits_lifted(
    problem: Problem, task: Task, rules: Rules, known: dict[tuple[bool, object], bool]
) -> bool:
    lifted, small = _lift(problem, task, rules)
    key = task.fewest > 1, (lifted.nodes, lifted.tasks, small).__repr__()
    if key not in known:
        known[key] = fits(lifted, task.id, small)
    return known[key]


def _lift(problem: Problem, task: Task, rules: Rules) -> tuple[Problem, frozenset[str]]:
    """The problem without these rules, and the nodes that are counted as just large enough."""
    nodes, others = problem.nodes, [other for other in problem.tasks if other.id != task.id]
    if UNSCHEDULABLE in rules:
        nodes = tuple(
            replace(n, schedulable=True, devices=tuple(replace(d, healthy=True) for d in n.devices))
            for n in nodes
        )
    if SELECTOR in rules:
        task = replace(task, node_selector={})
    if MODEL in rules:
        task = replace(task, gpu_models=())
    if TOPOLOGY in rules:
        task = replace(task, pack_within=None, spread_over=None, separate_from=())
        others = [
            replace(o, separate_from=tuple(i for i in o.separate_from if i != task.id))
            for o in others
        ]
    small: frozenset[str] = frozenset()
    if CAPACITY in rules:
        others = [_weightless(other) for other in others]
        bare = replace(
            task,
            replicas=1,
            min_replicas=1,
            node_selector={},
            pack_within=None,
            spread_over=None,
            separate_from=(),
        )
        small = frozenset(node.id for node in nodes if not _holds_one(problem, bare, node))
        nodes = tuple(_enlarged(node, task) if node.id in small else node for node in nodes)
    # In the problem's order, so that one that is lifted in vain is recognised.
    by_id = {other.id: other for other in (*others, task)}
    tasks = tuple(by_id[known.id] for known in problem.tasks)
    return replace(problem, nodes=nodes, tasks=tasks), small


def _holds_one(problem: Problem, bare: Task, node: Node) -> bool:
    """True when the empty node is large enough for one replica."""
    alone = replace(problem, nodes=(replace(node, schedulable=True),), tasks=(bare,))
    return fits(alone, bare.id)


def _weightless(task: Task) -> Task:
    """A task that is where it was and holds nothing."""
    placed = tuple(Slot(node=slot.node) for slot in task.placed)
    return replace(task, request=Request(), placed=placed)


def _enlarged(node: Node, task: Task) -> Node:
    """The node, just large enough for one replica; what its devices are stays as it was."""
    sizes = {size: max(getattr(node, size), getattr(task.request, size)) for size in SIZES}
    devices = list(node.devices)
    like = devices[0] if devices else Device(id="none")
    while len(devices) < task.request.gpus:
        devices.append(replace(like, id=f"more {len(devices)}", links={}))
    memory_mib = task.request.gpu_memory_mib
    larger = tuple(replace(d, memory_mib=max(d.memory_mib, memory_mib)) for d in devices)
    return replace(node, devices=larger, **sizes)


def exceeds_limit(start: Problem, name: str) -> bool:
    """True when the fewest replicas would exceed a limit of the queue or of one above it."""
    task, queues = task_of(start, name), {queue.id: queue for queue in start.queues}

    def over(queue: str | None) -> list[str]:
        return [] if queue not in queues else [queue, *over(queues[queue].parent)]

    for queue in over(task.queue):
        for dimension, limit in queues[queue].limit.items():
            need = task.fewest * queue_request(task)[dimension]
            use = sum(
                queue_request(other)[dimension] * len(other.placed)
                for other in start.tasks
                if queue in over(other.queue)
            )
            if need and use + need > limit:
                return True
    return False


def fits_without_higher(problem: Problem, answer: Answer, name: str) -> bool:
    """True when the task fits once all that runs at a higher priority is away."""
    most = task_of(problem, name).priority
    higher = {task.id for task in problem.tasks if task.priority > most}
    left = {other: slots for other, slots in answer.items() if other not in higher}
    return fits(final_state(problem, left, name), name)


def fewest_touched(problem: Problem, answer: Answer, name: str) -> int | None:
    """How many tasks have to be touched by a valid plan, ``max_moves`` aside, that also runs this
    task and differs only in where it leaves tasks that this plan doesn't touch; None if no plan is.
    """
    free = replace(problem, budget=FREELY)
    untouched = [
        task for task in problem.tasks if task.placed and answer.get(task.id) == task.placed
    ]
    kept = {other: slots for other, slots in answer.items() if slots}
    options = [
        [task.placed, (), *(way[task.id] for way in ways(problem, replace(task, min_replicas=1)))]
        for task in untouched
    ]
    fewest: int | None = None
    for own in ways(problem, task_of(problem, name)):
        for others in product(*options):
            after = {**kept, **{t.id: s for t, s in zip(untouched, others, strict=True)}, **own}
            after = {task: slots for task, slots in after.items() if slots}
            touched = sum(is_touched(task, after.get(task.id, ())) for task in problem.tasks)
            if (fewest is None or touched < fewest) and not slot_violations(free, after):
                fewest = touched
    return fewest


def works(problem: Problem, answer: Answer, name: str, fix: Fix) -> bool:
    """Carries the fix out in the plan's final state and tries to place the task there."""
    if fix.kind is FixKind.MOVE:
        start = final_state(problem, answer, name)
        moves = dict(zip(fix.tasks, fix.nodes, strict=True))
        return _fits_after_moves(start, task_of(start, name), moves)
    return fits(carried_out(problem, answer, name, fix), name)


def carried_out(problem: Problem, answer: Answer, name: str, fix: Fix) -> Problem:
    """The plan's final state as a start, with the fix applied and this task waiting."""
    start = final_state(problem, answer, name)
    task = task_of(start, name)
    match fix.kind:
        case FixKind.FREE | FixKind.FREE_SET:
            ended = {fix.task, *fix.tasks}
            left = {other: slots for other, slots in answer.items() if other not in ended}
            return final_state(problem, left, name)
        case FixKind.SHRINK:
            return _with(start, _shrunk(task, fix))
        case FixKind.RELAX:
            return _relaxed(start, task, fix)
        case FixKind.ADD_NODE:
            like = next(node for node in start.nodes if node.id == fix.node)
            healthy = tuple(replace(device, healthy=True) for device in like.devices)
            more = replace(like, id="one more", schedulable=True, devices=healthy)
            return replace(start, nodes=(*start.nodes, more))
        case FixKind.UNCORDON:
            opened = {node.id: replace(node, schedulable=True) for node in start.nodes}
            nodes = tuple(opened[n.id] if n.id == fix.node else n for n in start.nodes)
            return replace(start, nodes=nodes)
        case FixKind.RAISE_LIMIT:
            raised = {fix.dimension: fix.quantity}
            queues = tuple(
                replace(queue, limit={**queue.limit, **raised}) if queue.id == fix.queue else queue
                for queue in start.queues
            )
            return replace(start, queues=queues)
        case FixKind.MOVE:
            raise AssertionError("moves are carried out together with the placement")


def _with(problem: Problem, task: Task) -> Problem:
    tasks = tuple(task if other.id == task.id else other for other in problem.tasks)
    return replace(problem, tasks=tasks)


def _shrunk(task: Task, fix: Fix) -> Task:
    assert fix.dimension is not None
    assert fix.quantity is not None
    if fix.dimension == "min_replicas":
        return replace(task, replicas=fix.quantity, min_replicas=fix.quantity)
    return replace(task, request=replace(task.request, **{fix.dimension: fix.quantity}))


def _relaxed(problem: Problem, task: Task, fix: Fix) -> Problem:
    value = fix.value
    match fix.dimension:
        case "gpu_models":
            models = () if value is None else (*task.gpu_models, value)
            return _with(problem, replace(task, gpu_models=models))
        case "node_selector":
            selector = {} if value is None else dict(task.node_selector)
            if value is not None and "=" in value:
                label, more = value.split("=", 1)
                selector[label] = (*selector[label], more)
            elif value is not None:
                del selector[value]
            return _with(problem, replace(task, node_selector=selector))
        case "separate_from":
            pairs = {value} if value is not None else {t.id for t in problem.tasks}
            tasks = tuple(
                replace(
                    other,
                    separate_from=tuple(
                        o
                        for o in other.separate_from
                        if not ({o, other.id} & {task.id} and {o, other.id} & pairs - {task.id})
                    ),
                )
                for other in problem.tasks
            )
            return replace(problem, tasks=tasks)
        case field:
            return _with(problem, replace(task, **{str(field): None}))


def _fits_after_moves(start: Problem, task: Task, moves: dict[str, str]) -> bool:
    movers = [task_of(start, name) for name in moves]
    options = [[way[m.id] for way in ways(start, m, [moves[m.id]])] for m in movers]
    for *slots, own in product(*options, (way[task.id] for way in ways(start, task))):
        moved = {m.id: s for m, s in zip(movers, slots, strict=True)}
        if not slot_violations(start, {**running(start), **moved, task.id: own}):
            return True
    return False
