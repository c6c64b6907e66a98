"""Room that is held for gangs which start later, by stand-ins; and backfill, which uses it
meanwhile.

A stand-in is a task of the problem that runs already, on those devices of a gang's coming room
that are free now. Levels are doubled for its sake: who runs, and a gang that room is held for, is
at the upper half of its level, everybody else who waits and the stand-ins at the lower. So the gang
may take its own room, whoever is above may, and nobody of its own level.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from solver.plan import Fix, Plan
from solver.problem import WHOLE_DEVICE_MILLI, Node, Problem, Queue, Request, Slot, Task
from solver.scheduling.timeplan import HeldRoom

HOLD = "hold:"
"""What the name of a stand-in begins with (the service's own ids never do), and their queue, which
has no limit: what is held is no use of the gang's queue yet."""
HELD_LABEL = "stowplan/held"
"""Of a node with a stand-in: its own name. Of all others: nothing."""
_DEAR = 2**40
"""What it costs to move or evict a stand-in: more than any real task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A problem with stand-ins."""

    problem: Problem
    until_seconds: Mapping[str, float]
    """By node with a stand-in, after how long the first gang is to start there."""


def hold(problem: Problem, rooms: Sequence[HeldRoom]) -> Held | None:
    """The problem with room held for these gangs, the most urgent first; None where none of it is
    free."""
    tasks = {task.id: task for task in problem.tasks}
    free = _Free(problem)
    stand_ins: list[Task] = []
    until: dict[str, float] = {}
    for room in rooms:
        for number, slot in enumerate(room.slots):
            gang = tasks[room.task]
            request, devices = free.take(gang.request, slot)
            if not devices:
                continue
            until[slot.node] = min(room.p50_seconds, until.get(slot.node, room.p50_seconds))
            stand_ins.append(
                Task(
                    id=f"{HOLD}{gang.id}:{number}",
                    queue=HOLD,
                    priority=2 * gang.priority,
                    request=request,
                    node_selector={HELD_LABEL: (slot.node,)},
                    placed=(Slot(node=slot.node, devices=devices),),
                    move_cost=_DEAR,
                    evict_cost=_DEAR,
                )
            )
    if not stand_ins:
        return None
    gangs = {room.task for room in rooms}
    halved = tuple(
        replace(task, priority=2 * task.priority + bool(task.placed or task.id in gangs))
        for task in problem.tasks
    )
    changed = replace(
        problem,
        nodes=_labelled(problem.nodes, until),
        tasks=(*halved, *stand_ins),
        queues=(*problem.queues, Queue(id=HOLD)),
    )
    return Held(problem=changed, until_seconds=until)


def backfill(problem: Problem, held: Held, ends_in_seconds: Mapping[str, float]) -> Problem | None:
    """What may start meanwhile: the problem without stand-ins, in which nothing that runs moves and
    only those wait who are gone again before a gang is to start on their nodes.
    ``ends_in_seconds``: by waiting task, the time by which it has ended in nine cases of ten. None:
    nobody may.
    """
    candidates: list[Task] = []
    for task in problem.tasks:
        ends = ends_in_seconds.get(task.id)
        if task.placed or ends is None:
            continue
        nodes = tuple(sorted(n for n, until in held.until_seconds.items() if ends <= until))
        if nodes:
            # Nodes on which nothing is held were open to it in the round before.
            candidates.append(
                replace(task, node_selector={**task.node_selector, HELD_LABEL: ("", *nodes)})
            )
    if not candidates:
        return None
    return replace(
        problem,
        nodes=_labelled(problem.nodes, held.until_seconds),
        tasks=(*(task for task in problem.tasks if task.placed), *candidates),
        budget=replace(problem.budget, max_moves=0),
    )


def without_stand_ins(problem: Problem, plan: Plan) -> Plan:
    """The plan for those who are real."""
    real = {task.id for task in problem.tasks}
    return replace(
        plan,
        placements=tuple(one for one in plan.placements if one.task in real),
        moved=tuple(task for task in plan.moved if task in real),
        evicted=tuple(task for task in plan.evicted if task in real),
        unplaced=tuple(
            replace(one, fixes=tuple(fix for fix in one.fixes if not _stand_ins_of(fix)))
            for one in plan.unplaced
            if one.task in real
        ),
        steps=(),
    )


def kept_out(plan: Plan) -> dict[str, list[str]]:
    """By waiting task, the gangs whose held room it would have taken."""
    gangs = {
        one.task: {
            gang
            for fix in one.fixes
            for stand_in in _stand_ins_of(fix)
            if (gang := holder(stand_in)) is not None
        }
        for one in plan.unplaced
    }
    return {task: sorted(those) for task, those in gangs.items() if those - {task}}


def _stand_ins_of(fix: Fix) -> list[str]:
    """Stand-ins that would have to go: nobody can make them."""
    return [task for task in (fix.task, *fix.tasks) if task is not None and holder(task)]


def holder(stand_in: str) -> str | None:
    """The gang for which this task of a problem holds room; None: it's a real task."""
    return stand_in.removeprefix(HOLD).rpartition(":")[0] if stand_in.startswith(HOLD) else None


def _labelled(nodes: Sequence[Node], held: Mapping[str, float]) -> tuple[Node, ...]:
    return tuple(
        replace(node, labels={**node.labels, HELD_LABEL: node.id if node.id in held else ""})
        for node in nodes
    )


class _Free:
    """What is free now, less what has been held already."""

    _DIMENSIONS = ("cpu_milli", "memory_mib", "disk_mib", "network_mbps")

    def __init__(self, problem: Problem) -> None:
        self._nodes = {node.id: node for node in problem.nodes}
        self._milli: Counter[tuple[str, str]] = Counter()
        self._memory: Counter[tuple[str, str]] = Counter()
        self._used: dict[str, Counter[str]] = defaultdict(Counter)
        for task in problem.tasks:
            for slot in task.placed:
                self._use(slot, task.request)

    def take(self, wanted: Request, slot: Slot) -> tuple[Request, tuple[str, ...]]:
        """What of this slot can be held now: devices that have the share and the memory free, and
        their part of the rest, as far as it's there."""
        node = self._nodes.get(slot.node)
        if node is None or not slot.devices:
            return wanted, ()
        memory = {device.id: device.memory_mib for device in node.devices}
        devices = tuple(
            device
            for device in slot.devices
            if device in memory
            and self._milli[slot.node, device] + wanted.gpu_milli <= WHOLE_DEVICE_MILLI
            and self._memory[slot.node, device] + wanted.gpu_memory_mib <= memory[device]
        )
        part = {
            dimension: max(
                min(
                    getattr(wanted, dimension) * len(devices) // len(slot.devices),
                    getattr(node, dimension) - self._used[slot.node][dimension],
                ),
                0,
            )
            for dimension in self._DIMENSIONS
        }
        request = replace(wanted, gpus=len(devices), **part)
        if devices:
            self._use(Slot(node=slot.node, devices=devices), request)
        return request, devices

    def _use(self, slot: Slot, request: Request) -> None:
        for dimension in self._DIMENSIONS:
            self._used[slot.node][dimension] += getattr(request, dimension)
        for device in slot.devices:
            self._milli[slot.node, device] += request.gpu_milli
            self._memory[slot.node, device] += request.gpu_memory_mib
