"""THE SPECIFICATION of schedules: which rules starts break and what they are worth.

By plain counting; it knows no search and shares no code with one. Rules are numbered as in
docs/model.md, "Projects: who starts when".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from solver.scheduling.projects.project import Objective, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that the starts break."""

    rule: str
    """``S1`` to ``S4``, of docs/model.md."""
    task: str
    text: str


def violations(project: Project, starts: Mapping[str, int]) -> tuple[Violation, ...]:
    """Every rule that these starts break; none is what a schedule needs to be one."""
    missing = tuple(_missing(project, starts))
    if missing:
        return missing
    ends = {task.id: starts[task.id] + task.duration for task in project.tasks}
    return (
        *_times(project, starts, ends),
        *_order(project, starts, ends),
        *_capacities(project, starts, ends),
    )


def makespan(project: Project, starts: Mapping[str, int]) -> int:
    """When the last task ends; 0 for a project without tasks."""
    return max((starts[task.id] + task.duration for task in project.tasks), default=0)


def value(project: Project, starts: Mapping[str, int]) -> int:
    """What the project's objective is at these starts (S5)."""
    if project.objective == Objective.MAKESPAN:
        return makespan(project, starts)
    return sum(task.weight * (starts[task.id] + task.duration) for task in project.tasks)


def _missing(project: Project, starts: Mapping[str, int]) -> Iterator[Violation]:
    known = {task.id for task in project.tasks}
    for task in project.tasks:
        start = starts.get(task.id)
        if start is None:
            yield Violation(rule="S1", task=task.id, text="has no start")
        elif isinstance(start, bool) or not isinstance(start, int):
            yield Violation(rule="S1", task=task.id, text="has a start that is no whole number")
    for name in starts:
        if name not in known:
            yield Violation(rule="S1", task=name, text="is no task of the project")


def _times(
    project: Project, starts: Mapping[str, int], ends: Mapping[str, int]
) -> Iterator[Violation]:
    for task in project.tasks:
        start, end = starts[task.id], ends[task.id]
        if start < task.release:
            text = f"starts at {start}, before its release at {task.release}"
            yield Violation(rule="S2", task=task.id, text=text)
        if task.deadline is not None and end > task.deadline:
            text = f"ends at {end}, after its deadline at {task.deadline}"
            yield Violation(rule="S2", task=task.id, text=text)


def _order(
    project: Project, starts: Mapping[str, int], ends: Mapping[str, int]
) -> Iterator[Violation]:
    for task in project.tasks:
        for other in task.after:
            if starts[task.id] < ends[other]:
                text = f"starts at {starts[task.id]}, before {other} ends at {ends[other]}"
                yield Violation(rule="S3", task=task.id, text=text)


def _capacities(
    project: Project, starts: Mapping[str, int], ends: Mapping[str, int]
) -> Iterator[Violation]:
    """What is held of a resource grows only where a task starts: so those moments are looked at."""
    for name, capacity in project.resources.items():
        holders = [t for t in project.tasks if t.duration > 0 and t.request.get(name, 0) > 0]
        # At one moment those that end give back before those that start take.
        changes = sorted(
            [(ends[task.id], 0, -task.request[name], task.id) for task in holders]
            + [(starts[task.id], 1, task.request[name], task.id) for task in holders]
        )
        held = 0
        for time, _, change, task_id in changes:
            held += change
            if change > 0 and held > capacity:
                text = f"at {time}, {held} of {name} are held, of {capacity}"
                yield Violation(rule="S4", task=task_id, text=text)
