"""What the picture says: its headline, its caption and its tooltips."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from solver.picture.scene import Part, Scene
from solver.plan import ObjectiveTerm, Unplaced
from solver.problem import Device, Node

T = TypeVar("T")

MOST_LINES = 8
"""Objective terms, and waiting tasks, that the caption names."""


def headline(scene: Scene) -> str:
    problem = scene.problem
    devices = sum(len(node.devices) for node in problem.nodes)
    return (
        f"{_count(problem.nodes, 'node')}, {devices:,} device{'' if devices == 1 else 's'}: "
        f"{len(scene.running):,} of {_count(problem.tasks, 'task')} "
        f"{'runs' if len(scene.running) == 1 else 'run'} ({scene.plan.status})"
    )


def caption(scene: Scene) -> list[str]:
    """What the plan is worth and what nobody can do better, then who is touched and who waits."""
    plan = scene.plan
    lines = _listed(plan.objective, _about_term, "terms")
    for name, tasks in (("moved", plan.moved), ("evicted", plan.evicted)):
        if tasks:
            lines.append(f"{name}: {_and_more(tasks)}")
    lines += _listed(plan.unplaced, _about_waiting, "tasks wait")
    if scene.unreal:
        lines.append(f"not drawn: {scene.unreal:,} slots that name nothing of this problem")
    return lines


def _listed(items: Sequence[T], about: Callable[[T], str], what: str) -> list[str]:
    lines = [about(item) for item in items[:MOST_LINES]]
    rest = len(items) - len(lines)
    return [*lines, f"and {rest:,} more {what}"] if rest else lines


def _about_term(term: ObjectiveTerm) -> str:
    level = "" if term.level is None else f" (priority {term.level})"
    proof = "proven best" if term.value == term.bound else f"gap {100 * term.gap:.3g} %"
    return f"{term.name}{level}: {term.value:,}, bound {term.bound:,}, {proof}"


def _about_waiting(waiting: Unplaced) -> str:
    reasons = "; ".join(reason.text for reason in waiting.reasons)
    return f"{waiting.task} waits: {reasons or 'no reason is given'}"


def about_part(part: Part, node: Node, device: Device) -> str:
    """The tooltip of a task on a device."""
    task = part.task
    words = [
        f"{task.id}: {task.request.gpu_milli} milli of device {device.id} of {node.id}",
        f"replica {part.replica} of {task.replicas}, queue {task.queue}, priority {task.priority}",
    ]
    if task.request.gpu_memory_mib:
        words.append(f"{task.request.gpu_memory_mib:,} MiB of the device's {device.memory_mib:,}")
    if part.is_moved:
        before = ", ".join(f"{' '.join(slot.devices)} of {slot.node}" for slot in task.placed)
        words.append(f"moved here; it ran on {before}")
    return "\n".join(words)


def about_node(scene: Scene, node: Node) -> str:
    use = scene.use[node.id]
    words = [
        node.id,
        f"CPU {use['cpu_milli']:,} of {node.cpu_milli:,} milli",
        f"memory {use['memory_mib']:,} of {node.memory_mib:,} MiB",
    ]
    if use["replicas"]:
        words.append(f"{use['replicas']:,} replicas without a device")
    if not node.schedulable:
        words.append("cordoned")
    words += [f"device {device.id} is unhealthy" for device in node.devices if not device.healthy]
    words += [f"{domain} {value}" for domain, value in node.domains.items()]
    return "\n".join(words)


def models(devices: Iterable[Device]) -> str:
    counts = Counter(device.model or "device" for device in devices)
    return ", ".join(f"{count} x {model}" for model, count in counts.items()) or "no devices"


def _count(items: Sequence[object], what: str) -> str:
    return f"{len(items):,} {what}{'' if len(items) == 1 else 's'}"


def _and_more(names: Sequence[str]) -> str:
    rest = len(names) - MOST_LINES
    return ", ".join(names[:MOST_LINES]) + (f" and {rest:,} more" if rest > 0 else "")
