"""The specification of one draw by plain counting (docs/model.md, T2 to T5). It shares no code with
the compiled draws, and is for tests: it takes every start apart from all the others.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from solver.eligibility import (
    accepts,
    device_accepts,
    queue_chains,
    queue_need,
    value_of,
)
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI, Node, Slot, Task
from solver.scheduling.timeplan.question import TimeQuestion

BEGAN = -1.0
"""When what runs began: before now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A task in its slots from start to end, in seconds from now."""

    task: Task
    slots: tuple[Slot, ...]
    start: float
    end: float

    def is_at(self, moment: float) -> bool:
        return self.start <= moment < self.end


Stays = Mapping[str, Stay]
"""Of one draw, by task: all that run, and those that start within the horizon."""


def violations(asked: TimeQuestion, seconds: Mapping[str, float], stays: Stays) -> Iterator[str]:
    """What is wrong with a draw in which the tasks take so many seconds."""
    before: list[Stay] = [stays[task.id] for task in asked.running]
    for task in asked.waiting:
        stay = stays.get(task.id)
        if stay is None:
            first = earliest(asked, before, task, seconds[task.id])
            if first is not None:
                yield f"{task.id} could start at {first} and never does"
            continue
        if not task.fewest <= len(stay.slots) <= task.replicas:
            yield f"{task.id} starts with {len(stay.slots)} replicas"
        if task.pack_within is not None and len(_values(asked, stay)) != 1:
            yield f"{task.id} isn't packed within one {task.pack_within}"
        yield from _clashes(asked, before, stay)
        before.append(stay)
        first = earliest(asked, before[:-1], task, seconds[task.id])
        if first != stay.start:
            yield f"{task.id} starts at {stay.start} and could at {first}"


def earliest(asked: TimeQuestion, before: list[Stay], task: Task, seconds: float) -> float | None:
    """The earliest start beside those before it (T3), None when there is none: it's now, or when
    something ends."""
    ends = {stay.end for stay in before} | {window.end_seconds for window in asked.windows}
    moments = sorted({0.0} | {end for end in ends if 0 < end <= asked.horizon_seconds})
    return next((m for m in moments if _fits(asked, before, task, m, m + seconds)), None)


def _fits(asked: TimeQuestion, before: list[Stay], task: Task, start: float, end: float) -> bool:
    together: dict[object, int] = {}
    for node in asked.problem.nodes:
        value = None if task.pack_within is None else value_of(node, task.pack_within)
        room = _room(asked, before, task, node, start, end)
        together[value] = together.get(value, 0) + room
    most = max(together.values(), default=0)
    return min(most, _within_limits(asked, before, task, start, end)) >= task.fewest


def _moments(before: list[Stay], start: float, end: float) -> list[float]:
    """When most may be in use: at the start and whenever something begins."""
    return [start, *(stay.start for stay in before if start < stay.start < end)]


def _room(
    asked: TimeQuestion, before: list[Stay], task: Task, node: Node, start: float, end: float
) -> int:
    if not accepts(task, node) or not _may_be_there(asked, task, node, start, end):
        return 0
    request, moments = task.request, _moments(before, start, end)
    room = task.replicas
    for dimension in NODE_DIMENSIONS:
        if need := getattr(request, dimension):
            peak = max(_held(before, node, dimension, moment) for moment in moments)
            room = min(room, (getattr(node, dimension) - peak) // need)
    if request.gpus:
        shares = 0
        for device in node.devices:
            if not device_accepts(task, device):
                continue
            held = [_held_of(before, node, device.id, moment) for moment in moments]
            share = (WHOLE_DEVICE_MILLI - max(milli for milli, _ in held)) // request.gpu_milli
            if request.gpu_memory_mib:
                left = device.memory_mib - max(memory for _, memory in held)
                share = min(share, left // request.gpu_memory_mib)
            shares += max(share, 0)
        room = min(room, shares // request.gpus)
    return max(room, 0)


def _may_be_there(asked: TimeQuestion, task: Task, node: Node, start: float, end: float) -> bool:
    """(T4)"""
    queues = {task.queue, *(queue.id for queue in queue_chains(asked.problem)[task.queue])}
    return not any(
        node.id in window.nodes
        and window.start_seconds < end
        and start < window.end_seconds
        and window.queue not in queues
        for window in asked.windows
    )


def _held(before: list[Stay], node: Node, dimension: str, moment: float) -> int:
    return sum(
        getattr(stay.task.request, dimension)
        for stay in before
        if stay.is_at(moment)
        for slot in stay.slots
        if slot.node == node.id
    )


def _held_of(before: list[Stay], node: Node, device: str, moment: float) -> tuple[int, int]:
    users = [
        stay.task.request
        for stay in before
        if stay.is_at(moment)
        for slot in stay.slots
        if slot.node == node.id and device in slot.devices
    ]
    return sum(user.gpu_milli for user in users), sum(user.gpu_memory_mib for user in users)


def _within_limits(
    asked: TimeQuestion, before: list[Stay], task: Task, start: float, end: float
) -> int:
    """How many replicas the limits of the queue and those above it leave room for (C10)."""
    chains = queue_chains(asked.problem)
    room = task.replicas
    for queue in chains[task.queue]:
        for dimension, limit in queue.limit.items():
            need = queue_need(task.request, dimension)
            if not need:
                continue
            peak = max(
                sum(
                    len(stay.slots) * queue_need(stay.task.request, dimension)
                    for stay in before
                    if stay.is_at(moment) and queue in chains[stay.task.queue]
                )
                for moment in _moments(before, start, end)
            )
            room = min(room, (limit - peak) // need)
    return max(room, 0)


def _clashes(asked: TimeQuestion, before: list[Stay], stay: Stay) -> Iterator[str]:
    """A replica at a time is put where it goes, and has to fit there."""
    nodes = {node.id: node for node in asked.problem.nodes}
    task, placed = stay.task, list(before)
    for slot in stay.slots:
        node = nodes[slot.node]
        devices = tuple(device for device in node.devices if device.id in slot.devices)
        only = Node(
            **{name: getattr(node, name) for name in NODE_DIMENSIONS},
            id=node.id, schedulable=node.schedulable, labels=node.labels, domains=node.domains,
            devices=devices,
        )  # fmt: skip
        if len(devices) != task.request.gpus:
            yield f"{task.id} holds {len(devices)} devices on {node.id}"
        if not _room(asked, placed, task, only, stay.start, stay.end):
            yield f"{task.id} doesn't fit {slot} from {stay.start} to {stay.end}"
        placed.append(Stay(task=task, slots=(slot,), start=stay.start, end=stay.end))
    if _within_limits(asked, before, task, stay.start, stay.end) < len(stay.slots):
        yield f"{task.id} is more than its queue may have"


def _values(asked: TimeQuestion, stay: Stay) -> set[object]:
    nodes = {node.id: node for node in asked.problem.nodes}
    domain = stay.task.pack_within or ""
    return {value_of(nodes[slot.node], domain) for slot in stay.slots}
