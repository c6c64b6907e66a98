"""What a plan would change, and what of it still holds against fresh rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from solver.check import slot_violations
from solver.plan import Plan
from solver.problem import Problem, Slot

Slots = tuple[Slot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Tasks that a plan has elsewhere than they were."""

    before: Mapping[str, Slots]
    """Where the plan thought them; nothing for what waits."""
    after: Mapping[str, Slots]
    """In the plan's order: of two that can't both be had, it's the first. No slots: evicted."""


def changes_of(problem: Problem, plan: Plan) -> Changes:
    placed = {task.id: task.placed for task in problem.tasks}
    planned = {placement.task: placement.replicas for placement in plan.placements}
    after = {
        task: planned.get(task, ())
        for task in (*planned, *(task for task in placed if task not in planned))
        if not same(planned.get(task, ()), placed.get(task, ()))
    }
    return Changes(before={task: placed.get(task, ()) for task in after}, after=after)


def same(one: Slots, other: Slots) -> bool:
    """Whether these are the same places, in whatever order."""
    return one == other or Counter(s.key for s in one) == Counter(s.key for s in other)


def still_valid(fresh: Problem, changes: Changes) -> dict[str, Slots]:
    """The changes that break no rule of the fresh problem, by the specification alone.

    Usually the plan holds as a whole, which one check tells. If not, changes that have to do with
    the same nodes are looked at together: nobody is told to leave for a task that can't come. And
    where not even they hold, those that need nobody to leave are, one task at a time, so that one
    stale placement costs no other its place.
    """
    start = {task.id: task.placed for task in fresh.tasks}
    devices = {node.id: {device.id for device in node.devices} for node in fresh.nodes}
    known = set(slot_violations(fresh, start))

    def may_be(task: str, slots: Slots) -> bool:
        """Whether the task is where the plan thought it, and the places are there."""
        return (
            task in start
            and same(start[task], changes.before[task])
            and all(devices.get(slot.node, set()).issuperset(slot.devices) for slot in slots)
            and all(slot.node in devices for slot in slots)
        )

    def hold(changed: Mapping[str, Slots]) -> bool:
        return not set(slot_violations(fresh, {**start, **changed})) - known

    possible = {task: slots for task, slots in changes.after.items() if may_be(task, slots)}
    if len(possible) == len(changes.after) and hold(possible):
        return possible
    holds: dict[str, Slots] = {}
    for together in _by_node(changes):
        if possible.keys() >= together.keys() and hold({**holds, **together}):
            holds |= together
            continue
        for task, slots in together.items():
            if task in possible and not start[task] and hold({**holds, task: slots}):
                holds[task] = slots
    return holds


def _by_node(changes: Changes) -> list[dict[str, Slots]]:
    """The changes in groups that have no node in common, in the plan's order."""
    leader: dict[str, str] = {}

    def lead(task: str) -> str:
        while leader.setdefault(task, task) != task:
            leader[task] = leader[leader[task]]
            task = leader[task]
        return task

    first_on: dict[str, str] = {}
    for task, after in changes.after.items():
        for slot in (*changes.before[task], *after):
            leader[lead(task)] = lead(first_on.setdefault(slot.node, task))
    groups: dict[str, dict[str, Slots]] = {}
    for task, after in changes.after.items():
        groups.setdefault(lead(task), {})[task] = after
    return list(groups.values())
