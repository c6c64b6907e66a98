"""THE SPECIFICATION: what a plan has to obey, rule by rule, as docs/model.md numbers them.

It knows no solver and shares no code with a back end, so it can judge any plan, ours or another's:
``violations`` says what is wrong, ``score`` what the plan is worth.

A state that is broken at the start isn't the plan's fault. What runs may stay where it is, but no
rule that is broken may be broken further: an over-full node, device or queue takes nothing more,
whatever leaves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from solver.check_steps import step_faults
from solver.objective import NODE_DIMENSIONS, TermName
from solver.plan import Plan
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Problem, Queue, Slot, Task
from solver.score import (
    Slots,
    domain_value,
    is_touched,
    score,
    score_slots,
    slots_after,
    slots_before,
)

__all__ = ["Violation", "score", "slot_violations", "violations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule: its number in docs/model.md, a stable code, and what exactly is wrong."""

    rule: str
    code: str
    text: str
    task: str | None = None
    node: str | None = None
    queue: str | None = None


def violations(problem: Problem, plan: Plan) -> tuple[Violation, ...]:
    """Everything that is wrong with the plan; empty for a plan that may be carried out.

    A plan may be anybody's. This one puts two whole-device tasks on one device:

    >>> from solver import Device, Node, Problem, Request, Task
    >>> from solver import Placement, Plan, Slot, Stats, Status
    >>> node = Node(id="n1", devices=(Device(id="0"),))
    >>> tasks = tuple(Task(id=name, request=Request(gpus=1)) for name in ("a", "b"))
    >>> slot = Slot(node="n1", devices=("0",))
    >>> plan = Plan(
    ...     version=1,
    ...     status=Status.FEASIBLE,
    ...     placements=tuple(Placement(task=task.id, replicas=(slot,)) for task in tasks),
    ...     stats=Stats(seconds=0.0, quick_seconds=0.0, workers=1, digest=""),
    ... )
    >>> found = violations(Problem(version=1, nodes=(node,), tasks=tasks), plan)
    >>> [violation.rule for violation in found]
    ['C3', 'C14']
    >>> found[0].text
    'device 0 of n1 holds 2000 gpu_milli of 1000'
    """
    unreal = tuple(_unreal(problem, plan))
    if unreal:  # the other rules can't be read off slots that don't exist
        return unreal
    after = slots_after(plan.placements)
    return (
        *slot_violations(problem, after),
        *_untrue(problem, plan, after),
        *_uncarried(problem, plan),
    )


def slot_violations(problem: Problem, after: Slots) -> tuple[Violation, ...]:
    """The rules about where tasks run, (C2) to (C13), for slots that exist."""
    state = _State(problem, after)
    return (
        *_ineligible_slots(state),
        *_overfull_devices(state),
        *_overfull_nodes(state),
        *_broken_gangs(state),
        *_unpacked(state),
        *_unspread(state),
        *_unseparated(state),
        *_over_queue_limits(state),
        *_touched_unpreemptible(state),
        *_unjustified_losses(state),
        *_too_many_moves(state),
    )


class _State:
    """The problem and the slots before and after, indexed for the rules."""

    def __init__(self, problem: Problem, after: Slots) -> None:
        self.problem = problem
        self.tasks = {task.id: task for task in problem.tasks}
        self.nodes = {node.id: node for node in problem.nodes}
        self.devices = {(n.id, d.id): d for n in problem.nodes for d in n.devices}
        self.queues = {queue.id: queue for queue in problem.queues}
        self.before = slots_before(problem)
        self.after = {task: slots for task, slots in after.items() if slots}
        self.on_node_before = _per_node(self.before)
        self.on_node = _per_node(self.after)

    def grows_on(self, task: str, node: str) -> bool:
        """True when more replicas of the task run on the node than before."""
        return self.on_node[node][task] > self.on_node_before[node][task]

    def count(self, task: str) -> int:
        return len(self.after.get(task, ()))

    def is_as_before(self, task: str) -> bool:
        """True for a running task of which nothing has changed."""
        before, after = self.before.get(task, ()), self.after.get(task, ())
        return bool(before) and Counter(s.key for s in before) == Counter(s.key for s in after)

    def new_slots(self, task: str) -> list[Slot]:
        """The slots that aren't where a replica of the task ran before."""
        held = Counter(slot.key for slot in self.before.get(task, ()))
        new = []
        for slot in self.after.get(task, ()):
            if held[slot.key] > 0:
                held[slot.key] -= 1
            else:
                new.append(slot)
        return new

    def chain(self, queue: str) -> list[Queue]:
        """The queue and its ancestors, as far as they are listed."""
        chain = []
        at: str | None = queue
        while at is not None and at in self.queues:
            chain.append(self.queues[at])
            at = self.queues[at].parent
        return chain

    def queue_use(self, slots: Slots) -> dict[str, Counter[str]]:
        """Queue -> dimension -> what its tasks and those of the queues below hold."""
        use: dict[str, Counter[str]] = defaultdict(Counter)
        for task_id, placed in slots.items():
            task = self.tasks[task_id]
            for queue in self.chain(task.queue):
                for dimension, quantity in queue_request(task).items():
                    use[queue.id][dimension] += quantity * len(placed)
        return use


def queue_request(task: Task) -> dict[str, int]:
    """What one replica counts for in each dimension of a queue."""
    request = task.request
    return {
        "gpu_milli": request.gpus * request.gpu_milli,
        "gpus": request.gpus,
        "gpu_memory_mib": request.gpus * request.gpu_memory_mib,
        **{name: getattr(request, name) for name in NODE_DIMENSIONS},
    }


def _per_node(slots: Slots) -> defaultdict[str, Counter[str]]:
    """Node -> task -> how many of its replicas are there."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for task, placed in slots.items():
        for slot in placed:
            counts[slot.node][task] += 1
    return counts


def _unreal(problem: Problem, plan: Plan) -> Iterator[Violation]:
    """(C1) Placements name tasks once, nodes and distinct devices that exist, as many as are asked
    for.
    """
    tasks = {task.id: task for task in problem.tasks}
    devices = {node.id: {device.id for device in node.devices} for node in problem.nodes}
    seen: set[str] = set()
    for placement in plan.placements:
        task = tasks.get(placement.task)
        if task is None or placement.task in seen:
            what = "no task of the problem" if task is None else "placed twice"
            yield _unreal_placement(placement.task, f"task {placement.task} is {what}")
            continue
        seen.add(placement.task)
        if not 1 <= len(placement.replicas) <= task.replicas:
            text = f"task {task.id} runs {len(placement.replicas)} of its {task.replicas} replicas"
            yield _unreal_placement(task.id, text)
        for slot in placement.replicas:
            if slot.node not in devices:
                yield _unreal_placement(
                    task.id, f"task {task.id} is on {slot.node}, which is no node"
                )
            elif unknown := sorted(set(slot.devices) - devices[slot.node]):
                text = f"task {task.id} holds {', '.join(unknown)}, not on node {slot.node}"
                yield _unreal_placement(task.id, text)
            elif len(slot.devices) != len(set(slot.devices)):
                yield _unreal_placement(task.id, f"a replica of {task.id} holds a device twice")
            elif len(slot.devices) != task.request.gpus:
                held, asked = len(slot.devices), task.request.gpus
                text = f"a replica of {task.id} holds {held} devices, not {asked}"
                yield _unreal_placement(task.id, text)


def _unreal_placement(task: str, text: str) -> Violation:
    return Violation(rule="C1", code="unreal_placement", text=text, task=task)


def _ineligible_slots(state: _State) -> Iterator[Violation]:
    """(C2) What is new goes only where the task is allowed and the hardware takes something new."""
    for task_id in state.after:
        task = state.tasks[task_id]
        for slot in state.new_slots(task_id):
            node = state.nodes[slot.node]
            problems = list(_node_faults(task, node))
            for device_id in slot.devices:
                problems += _device_faults(task, state.devices[node.id, device_id])
            for code, text in problems:
                yield Violation(
                    rule="C2", code=code, text=f"task {task_id}: {text}", task=task_id, node=node.id
                )


def _node_faults(task: Task, node: Node) -> Iterator[tuple[str, str]]:
    if not node.schedulable:
        yield "node_cordoned", f"node {node.id} is cordoned and takes nothing new"
    for label, values in task.node_selector.items():
        if node.labels.get(label) not in values:
            yield (
                "selector",
                f"node {node.id} has {label}={node.labels.get(label)}, not in {values}",
            )
    for domain in (task.pack_within, task.spread_over):
        if domain is not None and domain_value(node, domain) is None:
            yield "domain_missing", f"node {node.id} has no {domain}"


def _device_faults(task: Task, device: Device) -> Iterator[tuple[str, str]]:
    if not device.healthy:
        yield "device_unhealthy", f"device {device.id} is unhealthy and takes nothing new"
    if task.gpu_models and device.model not in task.gpu_models:
        yield "model", f"device {device.id} is a {device.model}, not in {task.gpu_models}"
    if task.request.gpu_memory_mib > device.memory_mib:
        yield "device_memory", f"device {device.id} has {device.memory_mib} MiB in all"


def _overfull_devices(state: _State) -> Iterator[Violation]:
    """(C3) A device holds at most 1000 milli and (C4) at most its memory; (E) over-full, it takes
    no more.
    """
    before, after = _per_device(state.before), _per_device(state.after)
    for key, users in after.items():
        device = state.devices[key]
        sizes = (
            ("C3", "gpu_milli", WHOLE_DEVICE_MILLI),
            ("C4", "gpu_memory_mib", device.memory_mib),
        )
        for rule, dimension, capacity in sizes:
            needs = {task: getattr(state.tasks[task].request, dimension) for task in users}
            use = sum(needs[task] * count for task, count in users.items())
            grown = any(needs[t] and users[t] > before[key][t] for t in users)
            if use > capacity and grown:
                text = f"device {device.id} of {key[0]} holds {use} {dimension} of {capacity}"
                yield Violation(rule=rule, code=f"device_{dimension}", text=text, node=key[0])


def _per_device(slots: Slots) -> defaultdict[tuple[str, str], Counter[str]]:
    """(node, device) -> task -> how many of its replicas hold the device."""
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for task, placed in slots.items():
        for slot in placed:
            for device in slot.devices:
                counts[slot.node, device][task] += 1
    return counts


def _overfull_nodes(state: _State) -> Iterator[Violation]:
    """(C5) A node holds at most its cpu, memory, disk, network; (E) over-full, it takes no more."""
    for node_id, users in state.on_node.items():
        for dimension in NODE_DIMENSIONS:
            needs = {task: getattr(state.tasks[task].request, dimension) for task in users}
            use = sum(needs[task] * count for task, count in users.items())
            capacity = getattr(state.nodes[node_id], dimension)
            if use > capacity and any(needs[t] and state.grows_on(t, node_id) for t in users):
                text = f"node {node_id} holds {use} {dimension} of {capacity}"
                yield Violation(rule="C5", code=f"node_{dimension}", text=text, node=node_id)


def _broken_gangs(state: _State) -> Iterator[Violation]:
    """(C6) At least ``min_replicas`` of a task run, or none; (E) a gang broken before may stay as
    it is.
    """
    for task_id, slots in state.after.items():
        fewest = state.tasks[task_id].fewest
        if len(slots) < fewest and not state.is_as_before(task_id):
            text = f"task {task_id} runs {len(slots)} replicas and needs {fewest}"
            yield Violation(rule="C6", code="gang", text=text, task=task_id)


def _unpacked(state: _State) -> Iterator[Violation]:
    """(C7) All replicas of a task with ``pack_within`` are in one value of that domain."""
    for task_id, slots in state.after.items():
        domain = state.tasks[task_id].pack_within
        if domain is None or state.is_as_before(task_id):
            continue
        values = {domain_value(state.nodes[slot.node], domain) for slot in slots}
        if len(values) > 1 or None in values:
            text = f"task {task_id} is in {len(values)} values of {domain}, and has to be in one"
            yield Violation(rule="C7", code="pack_within", text=text, task=task_id)


def _unspread(state: _State) -> Iterator[Violation]:
    """(C8) No value of ``spread_over`` that could hold another replica is two or more behind the
    fullest.
    """
    for task_id, slots in state.after.items():
        task = state.tasks[task_id]
        if task.spread_over is None or state.is_as_before(task_id):
            continue
        counts = Counter(domain_value(state.nodes[slot.node], task.spread_over) for slot in slots)
        fullest = max(counts.values())
        for value, room in _rooms(state, task, slots).items():
            if counts[value] < min(room, fullest - 1):
                few = f"{counts[value]} replicas in {value[1]}"
                text = f"task {task_id} has {few} and {fullest} elsewhere"
                yield Violation(rule="C8", code="spread_over", text=text, task=task_id)


def _rooms(state: _State, task: Task, slots: tuple[Slot, ...]) -> Counter[tuple[str, str]]:
    """How many replicas each value of ``spread_over`` could hold if its nodes were empty.

    With ``pack_within`` only the nodes of the value that the task is packed in are looked at.
    """
    packed = None
    if task.pack_within is not None:
        packed = {domain_value(state.nodes[slot.node], task.pack_within) for slot in slots}
    rooms: Counter[tuple[str, str]] = Counter()
    for node in state.problem.nodes:
        value = domain_value(node, task.spread_over or "")
        inside = packed is None or domain_value(node, task.pack_within or "") in packed
        if value is not None and inside and not any(_node_faults(task, node)):
            rooms[value] += _room_of_empty_node(task, node)
    return rooms


def _room_of_empty_node(task: Task, node: Node) -> int:
    """How many replicas of the task the node's healthy hardware could hold, all else gone."""
    request = task.request
    needs = {dimension: getattr(request, dimension) for dimension in NODE_DIMENSIONS}
    rooms = [getattr(node, dimension) // need for dimension, need in needs.items() if need]
    rooms.append(task.replicas)
    if request.gpus:
        rooms.append(
            sum(
                _shares(task, device)
                for device in node.devices
                if not any(_device_faults(task, device))
            )
            // request.gpus
        )
    return min(rooms)


def _shares(task: Task, device: Device) -> int:
    shares = WHOLE_DEVICE_MILLI // task.request.gpu_milli
    if task.request.gpu_memory_mib:
        shares = min(shares, device.memory_mib // task.request.gpu_memory_mib)
    return shares


def _unseparated(state: _State) -> Iterator[Violation]:
    """(C9) Tasks of which one is ``separate_from`` the other share no node, whichever says so."""
    pairs = {
        (min(task.id, other), max(task.id, other))
        for task in state.problem.tasks
        for other in task.separate_from
    }
    for first, second in sorted(pairs):
        for node_id in dict.fromkeys(slot.node for slot in state.after.get(first, ())):
            if not state.on_node[node_id][second]:
                continue
            both_before = all(state.on_node_before[node_id][task] for task in (first, second))
            grown = state.grows_on(first, node_id) or state.grows_on(second, node_id)
            if grown or not both_before:
                text = f"tasks {first} and {second} are both on node {node_id}"
                yield Violation(
                    rule="C9", code="separate_from", text=text, task=first, node=node_id
                )


def _over_queue_limits(state: _State) -> Iterator[Violation]:
    """(C10) A queue and those below it hold at most its ``limit``; (E) over it, no task of it
    grows.
    """
    use = state.queue_use(state.after)
    for queue in state.problem.queues:
        for dimension, limit in queue.limit.items():
            if use[queue.id][dimension] <= limit:
                continue
            grown = any(
                state.count(task.id) > len(task.placed) and queue_request(task)[dimension]
                for task in state.problem.tasks
                if queue in state.chain(task.queue)
            )
            if grown:
                text = f"queue {queue.id} holds {use[queue.id][dimension]} {dimension} of {limit}"
                yield Violation(rule="C10", code="queue_limit", text=text, queue=queue.id)


def _touched_unpreemptible(state: _State) -> Iterator[Violation]:
    """(C11) A task that isn't preemptible is neither moved nor evicted."""
    for task in state.problem.tasks:
        if not task.preemptible and is_touched(task, state.after.get(task.id, ())):
            text = f"task {task.id} isn't preemptible and doesn't stay where it runs"
            yield Violation(rule="C11", code="not_preemptible", text=text, task=task.id)


def _unjustified_losses(state: _State) -> Iterator[Violation]:
    """(C12) A task loses replicas only to a task of a higher priority, or to a queue's guaranteed
    share.

    To lose to a task is to have fewer replicas than before on a node on which that task has more.
    """
    use = state.queue_use(state.after)
    for victim in state.problem.tasks:
        if state.count(victim.id) >= len(victim.placed):
            continue
        lost_on = [
            node
            for node, counts in state.on_node_before.items()
            if state.on_node[node][victim.id] < counts[victim.id]
        ]
        gainers = [
            state.tasks[task]
            for node in lost_on
            for task in state.on_node[node]
            if state.grows_on(task, node)
        ]
        if not any(
            gainer.priority > victim.priority or _reclaims(state, use, gainer, victim)
            for gainer in gainers
        ):
            text = f"task {victim.id} loses replicas, and nothing that may take its place does"
            yield Violation(rule="C12", code="unjustified_eviction", text=text, task=victim.id)


def _reclaims(state: _State, use: dict[str, Counter[str]], gainer: Task, victim: Task) -> bool:
    """True when a queue of the gainer gets what it is guaranteed, from queues that keep what they
    are.
    """
    if state.count(gainer.id) <= len(gainer.placed):
        return False
    mine, theirs = state.chain(gainer.queue), state.chain(victim.queue)
    return any(
        use[queue.id][dimension] <= guaranteed
        and queue_request(gainer)[dimension] > 0
        and queue_request(victim)[dimension] > 0
        and all(
            use[q.id][dimension] >= q.guaranteed.get(dimension, 0) for q in theirs if q not in mine
        )
        for queue in mine
        if queue not in theirs
        for dimension, guaranteed in queue.guaranteed.items()
    )


def _too_many_moves(state: _State) -> Iterator[Violation]:
    """(C13) At most ``max_moves`` tasks are moved or evicted."""
    most = state.problem.budget.max_moves
    touched = [t.id for t in state.problem.tasks if is_touched(t, state.after.get(t.id, ()))]
    if most is not None and len(touched) > most:
        text = f"{len(touched)} tasks are moved or evicted, and max_moves is {most}"
        yield Violation(rule="C13", code="max_moves", text=text)


def _untrue(problem: Problem, plan: Plan, after: Slots) -> Iterator[Violation]:
    """(C14) What the plan says of itself is so: who moved, who was evicted, who waits, what it is
    worth. It needn't know of the implied term ``repair``.
    """
    said_terms = {term.name for term in plan.objective}
    touched = {t.id for t in problem.tasks if is_touched(t, after.get(t.id, ()))}
    waiting = {task.id for task in problem.tasks if not after.get(task.id)}
    truths = (
        ("moved", sorted(plan.moved), sorted(touched - waiting)),
        ("evicted", sorted(plan.evicted), sorted(touched & waiting)),
        ("unplaced", sorted(entry.task for entry in plan.unplaced), sorted(waiting)),
        (
            "objective",
            [(term.name, term.level, term.value) for term in plan.objective],
            [
                (term.name, term.level, term.value)
                for term in score_slots(problem, after)
                if term.name != TermName.REPAIR or term.name in said_terms
            ],
        ),
    )
    for name, said, true in truths:
        if said != true:
            yield Violation(
                rule="C14", code=f"untrue_{name}", text=f"{name} says {said}, and it is {true}"
            )
    for term in plan.objective:
        beaten = term.value > term.bound if term.name == "placed" else term.value < term.bound
        if beaten:
            text = f"{term.name} is {term.value}, better than its bound {term.bound}"
            yield Violation(rule="C14", code="untrue_bound", text=text)


def _uncarried(problem: Problem, plan: Plan) -> Iterator[Violation]:
    """(C15) The steps, if there are any, lead to the placements and take nothing before it is
    free.
    """
    for fault in step_faults(problem, plan):
        yield Violation(
            rule="C15", code=fault.code, text=fault.text, task=fault.task, node=fault.node
        )
