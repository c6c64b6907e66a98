"""What makes a problem invalid, said once for a :class:`~solver.problem.Problem` and for raw JSON.

``semantic_faults`` reads attributes or mapping keys alike and steps over pieces of the wrong shape,
so the border can report a document's shape and its meaning in one go. ``bound_faults`` reads the
bounds from the annotations; for JSON pydantic reads the same ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from annotated_types import Ge, Le, MaxLen, MinLen

from solver.errors import Fault, shorten
from solver.objective import NODE_DOMAIN, OBJECTIVE_NAMES, QUEUE_DIMENSIONS
from solver.reading import duplicates, fault_at, ids, integer, items, mapping, numbered, read, text

DEFAULT_QUEUE = "default"
INFINITY = float("inf")


def semantic_faults(document: object) -> tuple[Fault, ...]:
    """Every contradiction within the document: ids, references, queues, gangs, shares, placed
    replicas.
    """
    queues = _queue_ids(document)
    devices = _devices_by_node(document)
    tasks = frozenset(ids(items(document, "tasks")))
    return (
        *duplicates(document, "nodes"),
        *duplicates(document, "tasks"),
        *duplicates(document, "queues"),
        *(fault for i, node in numbered(document, "nodes") for fault in _node_faults(i, node)),
        *(
            fault
            for i, task in numbered(document, "tasks")
            for fault in _task_faults(f"tasks[{i}]", task, tasks, queues, devices)
        ),
        *_queue_faults(document, queues),
        *_objective_faults(document),
    )


def bound_faults(value: object, path: str = "") -> Iterator[Fault]:
    """Every number or string outside the bounds of its annotation, in a tree of our dataclasses."""
    if _is_within_bounds(value):
        return
    for name, bounds in _bounds_of(type(value)):
        yield from _outside(getattr(value, name), bounds, _join(path, name))
    for name in _children_of(type(value)):
        child = getattr(value, name)
        if isinstance(child, tuple):
            for i, item in enumerate(child):
                if is_dataclass(item):
                    yield from bound_faults(item, f"{_join(path, name)}[{i}]")
        elif is_dataclass(child):
            yield from bound_faults(child, _join(path, name))


def _is_within_bounds(value: object) -> bool:
    """False where :func:`bound_faults` has to look closer. Of the hundreds of thousands of values
    of a large problem nearly all are fine, so this one says nothing about where it looked.
    """
    kind = type(value)
    for name, limits in _limits_of(kind):
        if not _is_within(getattr(value, name), limits):
            return False
    for name in _children_of(kind):
        child = getattr(value, name)
        for item in child if isinstance(child, tuple) else (child,):
            if not _is_within_bounds(item):
                return False
    return True


def _is_within(item: Any, limits: tuple[float, float, float, float]) -> bool:
    kind = item.__class__
    if kind is int or kind is float:
        return limits[0] <= item <= limits[1]
    if kind is str:
        return limits[2] <= len(item) <= limits[3]
    if kind is dict:
        return all(_is_within(value, limits) for value in item.values())
    return item is None or kind is tuple  # what a tuple holds has no bounds, or some of its own


@cache
def _limits_of(kind: type) -> tuple[tuple[str, tuple[float, float, float, float]], ...]:
    """The fields that carry bounds, with the least and most, the shortest and longest allowed."""
    if not is_dataclass(kind):
        return ()
    found = []
    for name, bounds in _bounds_of(kind):
        least, most, shortest, longest = -INFINITY, INFINITY, 0, INFINITY
        for bound in bounds:
            match bound:
                case Ge(ge=limit):
                    least = max(least, limit)  # pyright: ignore[reportArgumentType]
                case Le(le=limit):
                    most = min(most, limit)  # pyright: ignore[reportArgumentType]
                case MinLen(min_length=limit):
                    shortest = max(shortest, limit)
                case MaxLen(max_length=limit):
                    longest = min(longest, limit)
                case _:
                    pass
        found.append((name, (least, most, shortest, longest)))
    return tuple(found)


def _outside(value: Any, bounds: tuple[Any, ...], path: str) -> Iterator[Fault]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _outside(item, bounds, f"{path}.{key}")
        return
    for bound in bounds:
        match bound:
            case Ge(ge=least) if isinstance(value, int | float) and not value >= least:  # pyright: ignore[reportOperatorIssue]
                yield fault_at(path, value, f"has to be at least {least}")
            case Le(le=most) if isinstance(value, int | float) and not value <= most:  # pyright: ignore[reportOperatorIssue]
                yield fault_at(path, value, f"has to be at most {most}")
            case MinLen(min_length=least) if isinstance(value, str) and len(value) < least:
                yield fault_at(path, value, f"needs at least {least} character")
            case MaxLen(max_length=most) if isinstance(value, str) and len(value) > most:
                yield fault_at(path, value, f"has more than {most} characters")
            case _:
                pass


@cache
def _bounds_of(kind: type) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The fields of a dataclass that carry bounds, with those bounds."""
    hints = get_type_hints(kind, include_extras=True)
    found = ((field.name, tuple(_metadata(hints[field.name]))) for field in fields(kind))
    return tuple((name, bounds) for name, bounds in found if bounds)


@cache
def _children_of(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass that may hold further dataclasses."""
    if not is_dataclass(kind):
        return ()
    return tuple(
        field.name
        for field in fields(kind)
        if field.name in {"nodes", "devices", "tasks", "request", "placed", "queues", "budget"}
    )


def _metadata(hint: Any) -> Iterator[Any]:
    yield from getattr(hint, "__metadata__", ())
    for argument in getattr(hint, "__args__", ()):
        if hasattr(argument, "__metadata__"):
            yield from argument.__metadata__


def _node_faults(i: int, node: object) -> Iterator[Fault]:
    seen: set[str] = set()
    for j, device in numbered(node, "devices"):
        path = f"nodes[{i}].devices[{j}]"
        device_id = text(device, "id")
        if device_id in seen:
            yield fault_at(f"{path}.id", device_id, "is the id of an earlier device of this node")
        if device_id is not None:
            seen.add(device_id)
        for peer in mapping(device, "links"):
            if peer == device_id:
                yield fault_at(f"{path}.links.{peer}", peer, "links the device to itself")
    if NODE_DOMAIN in mapping(node, "domains"):
        value = mapping(node, "domains")[NODE_DOMAIN]
        yield fault_at(f"nodes[{i}].domains.node", value, "is implied: each node is its own value")


def _task_faults(
    path: str,
    task: object,
    tasks: frozenset[str],
    queues: frozenset[str],
    devices: dict[str, frozenset[str]],
) -> Iterator[Fault]:
    queue = text(task, "queue")
    if queue is not None and queue not in queues:
        yield fault_at(f"{path}.queue", queue, "is no queue of this problem")
    replicas = integer(task, "replicas", 1)
    fewest = integer(task, "min_replicas", None)
    if replicas is not None and fewest is not None and fewest > replicas:
        yield fault_at(
            f"{path}.min_replicas", fewest, f"is more than the task's {replicas} replicas"
        )
    yield from _share_faults(path, read(task, "request"))
    for j, other in enumerate(items(task, "separate_from")):
        if not isinstance(other, str):
            continue
        if other == text(task, "id"):
            yield fault_at(f"{path}.separate_from[{j}]", other, "is the task itself")
        elif other not in tasks:
            yield fault_at(f"{path}.separate_from[{j}]", other, "is no task of this problem")
    placed = items(task, "placed")
    if replicas is not None and len(placed) > max(0, replicas):
        yield fault_at(f"{path}.placed", placed, f"holds more than the task's {replicas} replicas")
    for j, slot in enumerate(placed):
        yield from _slot_faults(f"{path}.placed[{j}]", slot, task, devices)


def _share_faults(path: str, request: object) -> Iterator[Fault]:
    gpus = integer(request, "gpus", 0)
    share = integer(request, "gpu_milli", 1000)
    if share is not None and gpus is not None and share < 1000 and gpus != 1:
        reason = f"is a share of one device and needs gpus: 1, not {gpus}"
        yield fault_at(f"{path}.request.gpu_milli", share, reason)


def _slot_faults(
    path: str, slot: object, task: object, devices: dict[str, frozenset[str]]
) -> Iterator[Fault]:
    node = text(slot, "node")
    held = [item for item in items(slot, "devices") if isinstance(item, str)]
    gpus = integer(read(task, "request"), "gpus", 0)
    if node is not None and node not in devices:
        yield fault_at(f"{path}.node", node, "is no node of this problem")
    for j, device in enumerate(held):
        if node in devices and device not in devices[node]:
            yield fault_at(f"{path}.devices[{j}]", device, f"is no device of node {shorten(node)}")
    if len(set(held)) < len(held):
        for j in (j for j, device in enumerate(held) if held.index(device) < j):
            device = held[j]
            yield fault_at(
                f"{path}.devices[{j}]", device, "is named twice; a replica's devices are distinct"
            )
    if gpus is not None and len(held) != gpus:
        yield fault_at(f"{path}.devices", held, f"has to name the {gpus} devices of a replica")


def _queue_faults(document: object, queues: frozenset[str]) -> Iterator[Fault]:
    parents = {
        queue_id: text(queue, "parent")
        for queue in items(document, "queues")
        if (queue_id := text(queue, "id")) is not None
    }
    cyclic = _on_cycle(parents)
    for i, queue in numbered(document, "queues"):
        parent = text(queue, "parent")
        if parent is not None and parent not in queues:
            yield fault_at(f"queues[{i}].parent", parent, "is no queue of this problem")
        if text(queue, "id") in cyclic:
            yield fault_at(
                f"queues[{i}].parent", parent, "closes a ring: the queue is its own ancestor"
            )
        for name in ("guaranteed", "limit"):
            for dimension in mapping(queue, name):
                if dimension not in QUEUE_DIMENSIONS:
                    known = ", ".join(QUEUE_DIMENSIONS)
                    yield fault_at(
                        f"queues[{i}].{name}.{dimension}", dimension, f"is none of {known}"
                    )


def _on_cycle(parents: dict[str, str | None]) -> frozenset[str]:
    """The queues that are their own ancestors, in one pass over all chains."""
    done: set[str] = set()
    cyclic: set[str] = set()
    for start in parents:
        chain: dict[str, None] = {}
        at: str | None = start
        while at is not None and at in parents and at not in done and at not in chain:
            chain[at] = None
            at = parents[at]
        if at is not None and at in chain:
            members = list(chain)
            cyclic.update(members[members.index(at) :])
        done.update(chain)
    return frozenset(cyclic)


def _objective_faults(document: object) -> Iterator[Fault]:
    names = read(document, "objective")
    if isinstance(names, list | tuple) and not names:
        yield fault_at("objective", names, "names no term")
    for i, name in enumerate(items(document, "objective")):
        if isinstance(name, str) and name not in OBJECTIVE_NAMES:
            yield fault_at(f"objective[{i}]", name, f"is none of {', '.join(OBJECTIVE_NAMES)}")
        elif name in items(document, "objective")[: min(i, len(OBJECTIVE_NAMES))]:
            yield fault_at(f"objective[{i}]", name, "is named twice")


def _queue_ids(document: object) -> frozenset[str]:
    return frozenset((DEFAULT_QUEUE, *ids(items(document, "queues"))))


def _devices_by_node(document: object) -> dict[str, frozenset[str]]:
    return {
        node_id: frozenset(ids(items(node, "devices")))
        for node in items(document, "nodes")
        if (node_id := text(node, "id")) is not None
    }


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
