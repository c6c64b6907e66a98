"""What is where after the plan, and in which colour."""

import colorsys
from collections import Counter, defaultdict
from enum import StrEnum
from typing import NamedTuple

from solver.plan import Plan
from solver.problem import Problem, Slot, Task
from solver.score import slots_after

GOLDEN_ANGLE = 137.508 / 360
"""Neighbours in any run of colours stay far apart on the wheel."""


class ColourBy(StrEnum):
    """What a colour stands for."""

    TASK = "task"
    QUEUE = "queue"
    PRIORITY = "priority"


class Part(NamedTuple):
    """What one replica holds of one device."""

    task: Task
    replica: int
    """Which of the task's replicas, from 1."""
    is_moved: bool


class Scene:
    """What is where, and in which colour."""

    def __init__(self, problem: Problem, plan: Plan, by: ColourBy) -> None:
        self.problem = problem
        self.plan = plan
        self.by = by
        self.parts: defaultdict[tuple[str, str], list[Part]] = defaultdict(list)
        self.use: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.unreal = 0
        devices = {node.id: {device.id for device in node.devices} for node in problem.nodes}
        after = slots_after(plan.placements)
        moved = set(plan.moved)
        self.running = [task for task in problem.tasks if after.get(task.id)]
        self.unreal += sum(map(len, after.values())) - sum(len(after[t.id]) for t in self.running)
        for task in self.running:
            stays = {slot.key for slot in task.placed}
            for replica, slot in enumerate(after[task.id], start=1):
                if slot.node not in devices or not devices[slot.node].issuperset(slot.devices):
                    self.unreal += 1
                    continue
                is_moved = task.id in moved and slot.key not in stays
                self._seat(Part(task, replica, is_moved), slot)
        self.colours, self.names = self._paint()

    def _seat(self, part: Part, slot: Slot) -> None:
        for device in slot.devices:
            self.parts[slot.node, device].append(part)
        use = self.use[slot.node]
        use["cpu_milli"] += part.task.request.cpu_milli
        use["memory_mib"] += part.task.request.memory_mib
        if not slot.devices:
            use["replicas"] += 1

    def _paint(self) -> tuple[dict[str, str], dict[str, str]]:
        """Task id -> colour, and what is named in the legend -> colour."""
        match self.by:
            case ColourBy.TASK:
                of = {task.id: task.id for task in self.running}
                order = list(of)
            case ColourBy.QUEUE:
                of = {task.id: task.queue for task in self.running}
                order = sorted(set(of.values()))
            case ColourBy.PRIORITY:
                of = {task.id: f"priority {task.priority}" for task in self.running}
                levels = sorted({task.priority for task in self.running}, reverse=True)
                order = [f"priority {level}" for level in levels]
        names = {name: _colour(index) for index, name in enumerate(order)}
        return {task: names[name] for task, name in of.items()}, names


def _colour(index: int) -> str:
    """Light enough for dark letters, on light and dark pages."""
    hue = (0.58 + index * GOLDEN_ANGLE) % 1.0
    lightness = (0.74, 0.64, 0.82)[index % 3]
    return "#" + "".join(
        f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, lightness, 0.6)
    )
