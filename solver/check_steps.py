"""Part of the specification: what the steps of a plan have to obey (model.md, C15), by replaying
them.

Knows nothing of how they are computed, and looks at every node and device.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from solver.objective import NODE_DIMENSIONS
from solver.plan import Plan, Step, StepKind
from solver.problem import WHOLE_DEVICE_MILLI, Problem, Slot, Task
from solver.score import Slots, slots_after, slots_before

Place = tuple[str, str, str]
"""(node, device or "", dimension)."""
Running = dict[str, Counter[tuple[str, tuple[str, ...]]]]
"""Task -> the keys of the slots that its replicas run in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFault:
    """What is wrong with a step, or with where all of them lead."""

    code: str
    text: str
    task: str
    node: str | None = None


def step_faults(problem: Problem, plan: Plan) -> Iterator[StepFault]:
    """(C15) What goes wrong when the steps of a plan are carried out wave by wave.

    The placements have to be real (C1). A plan without steps says nothing about the way, so nothing
    is wrong with it.
    """
    if not plan.steps:
        return
    replay = _Replay(problem, slots_after(plan.placements))
    yield from replay.order_faults(plan.steps)
    for _, steps in groupby(plan.steps, key=lambda step: step.wave):
        yield from replay.wave_faults(list(steps))
    yield from replay.end_faults()


class _Replay:
    """What runs, step by step. In a wave the starts come before the stops, as they may in truth."""

    def __init__(self, problem: Problem, after: Slots) -> None:
        self.tasks = {task.id: task for task in problem.tasks}
        self.before = _running(slots_before(problem))
        self.after = _running(after)
        self.running = _running(slots_before(problem))
        self.use = _use(self.tasks, self.before)
        self.most = _capacities(problem)
        for place, held in _use(self.tasks, self.after).items():
            self.most[place] = max(self.most[place], held)  # (E): over-full in the end as well
        self.apart: defaultdict[str, set[str]] = defaultdict(set)
        for task in problem.tasks:
            for other in task.separate_from:
                self.apart[task.id].add(other)
                self.apart[other].add(task.id)

    def order_faults(self, steps: tuple[Step, ...]) -> Iterator[StepFault]:
        """Waves begin at 0 or later and never go back."""
        for earlier, later in zip((None, *steps), steps, strict=False):
            if later.wave < (0 if earlier is None else earlier.wave):
                text = f"the step of {later.task} in wave {later.wave} comes too late in the list"
                yield StepFault(code="step_order", text=text, task=later.task)

    def wave_faults(self, steps: list[Step]) -> Iterator[StepFault]:
        """A stop ends what runs, a start takes what is free and the plan gives it."""
        for step in steps:
            if step.kind is StepKind.START:
                yield from self._start(step)
        for step in steps:
            if step.kind is StepKind.STOP:
                yield from self._stop(step)

    def end_faults(self) -> Iterator[StepFault]:
        """After the last step runs what the plan says."""
        for task_id in self.tasks:
            if +self.running[task_id] != +self.after[task_id]:
                text = f"after the steps task {task_id} doesn't run where the plan places it"
                yield StepFault(code="step_end", text=text, task=task_id)

    def _stop(self, step: Step) -> Iterator[StepFault]:
        running = self.running[step.task]
        for slot in step.replicas:
            if running[slot.key] <= 0:
                text = f"task {step.task} is stopped on {slot.node}, where it doesn't run"
                yield StepFault(code="step_stop", text=text, task=step.task, node=slot.node)
                continue
            running[slot.key] -= 1
            for place, need in _needs(self.tasks[step.task], slot):
                self.use[place] -= need

    def _start(self, step: Step) -> Iterator[StepFault]:
        task, after = self.tasks.get(step.task), self.after[step.task]
        if task is None or any(not after[slot.key] for slot in step.replicas):
            text = f"a start of {step.task} is in none of the plan's placements"
            yield StepFault(code="step_start", text=text, task=step.task)
            return
        if (self.running[step.task] & self.before[step.task]) - after:
            text = f"task {step.task} starts anew before it has stopped where it leaves"
            yield StepFault(code="step_double_run", text=text, task=step.task)
        for slot in step.replicas:
            yield from self._take(task, slot)

    def _take(self, task: Task, slot: Slot) -> Iterator[StepFault]:
        self.running[task.id][slot.key] += 1
        for place, need in _needs(task, slot):
            self.use[place] += need
            if self.use[place] > self.most[place]:
                where = f"{place[1]} of {slot.node}" if place[1] else slot.node
                text = f"task {task.id} starts on {where} before its {place[2]} is free"
                yield StepFault(code="step_room", text=text, task=task.id, node=slot.node)
        for other in sorted(self.apart[task.id]):
            here, later = (
                any(count and node == slot.node for (node, _), count in slots.items())
                for slots in (self.running[other], self.after[other])
            )
            if here and not later:
                text = f"task {task.id} starts on {slot.node} before {other} has left it"
                yield StepFault(code="step_separate", text=text, task=task.id, node=slot.node)


def _running(slots: Slots) -> Running:
    found: Running = defaultdict(Counter)
    for task, placed in slots.items():
        found[task].update(slot.key for slot in placed)
    return found


def _needs(task: Task, slot: Slot) -> Iterator[tuple[Place, int]]:
    for dimension in NODE_DIMENSIONS:
        if need := getattr(task.request, dimension):
            yield (slot.node, "", dimension), need
    for device in slot.devices:
        yield (slot.node, device, "gpu_milli"), task.request.gpu_milli
        if task.request.gpu_memory_mib:
            yield (slot.node, device, "gpu_memory_mib"), task.request.gpu_memory_mib


def _use(tasks: dict[str, Task], running: Running) -> Counter[Place]:
    use: Counter[Place] = Counter()
    for task, slots in running.items():
        for (node, devices), count in slots.items():
            for place, need in _needs(tasks[task], Slot(node=node, devices=devices)):
                use[place] += need * count
    return use


def _capacities(problem: Problem) -> dict[Place, int]:
    capacities: dict[Place, int] = {}
    for node in problem.nodes:
        for dimension in NODE_DIMENSIONS:
            capacities[node.id, "", dimension] = getattr(node, dimension)
        for device in node.devices:
            capacities[node.id, device.id, "gpu_milli"] = WHOLE_DEVICE_MILLI
            capacities[node.id, device.id, "gpu_memory_mib"] = device.memory_mib
    return capacities
