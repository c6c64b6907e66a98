"""What could be changed about a waiting task, its queue or the nodes so that it fits."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from solver.arrays import Flags, Ints
from solver.explain import fitting
from solver.explain.fitting import CORDON, MODEL, SELECTOR, TOPOLOGY, UNSCHEDULABLE, Ask, Layout
from solver.explain.room import Room
from solver.objective import NODE_DIMENSIONS, NODE_DOMAIN
from solver.plan import Fix, FixKind
from solver.problem import WHOLE_DEVICE_MILLI, Task

NODE_SHAPES_TRIED = 8
MODELS_TRIED = 12
MOST_SHRUNK = 3
"""So many smaller requests are offered, each smaller in one dimension."""


def relaxing(room: Room, ask: Ask) -> Iterator[Fix]:
    """Wishes of the task itself that it could do without."""
    task = ask.task
    if ask.models and fitting.gang_fits(room, ask, MODEL):
        yield _other_model(room, ask)
    if task.node_selector and fitting.gang_fits(room, ask, SELECTOR):
        yield from _other_labels(room, ask)
    if (task.pack_within or task.spread_over or ask.others) and fitting.gang_fits(
        room, ask, TOPOLOGY
    ):
        yield from _without_topology(room, ask)


def _other_model(room: Room, ask: Ask) -> Fix:
    """One more model to accept, the one of which most is free; any, if one isn't enough."""
    ground = ask.ground
    free = np.maximum(0, room.milli)
    others = [model for model in ground.models if model not in ask.models]
    others.sort(key=lambda m: (-int(free[ground.accepts_model((m,))].sum()), m))
    for model in others[:MODELS_TRIED]:
        wider = replace(ask.task, gpu_models=(*ask.models, model))
        if fitting.gang_fits(room, Ask(ground, wider, ask.others)):
            text = f"it fits if it accepts model {model} too"
            return Fix(kind=FixKind.RELAX, text=text, dimension="gpu_models", value=model)
    text = "it fits if it accepts any model"
    return Fix(kind=FixKind.RELAX, text=text, dimension="gpu_models")


def _other_labels(room: Room, ask: Ask) -> Iterator[Fix]:
    """One label that could have another value, or go; the whole selector, if one isn't enough."""
    selector = ask.task.node_selector
    for label in sorted(selector):
        rest = {name: values for name, values in selector.items() if name != label}
        without = Ask(ask.ground, replace(ask.task, node_selector=rest), ask.others)
        if not fitting.gang_fits(room, without):
            continue
        value = _value_that_fits(room, ask, without, label)
        if value is None:
            text = f"it fits without the selector on {label}"
            yield Fix(kind=FixKind.RELAX, text=text, dimension="node_selector", value=label)
        else:
            text = f"it fits if {label} may be {value} too"
            named = f"{label}={value}"
            yield Fix(kind=FixKind.RELAX, text=text, dimension="node_selector", value=named)
        return
    text = "it fits without its node selector"
    yield Fix(kind=FixKind.RELAX, text=text, dimension="node_selector")


def _value_that_fits(room: Room, ask: Ask, without: Ask, label: str) -> str | None:
    """A value of the label of which the nodes, beside those allowed already, hold the task."""
    selector = ask.task.node_selector
    nodes = np.flatnonzero(fitting.fits_one(room, without)).tolist()
    values = dict.fromkeys(ask.ground.nodes[n].labels.get(label) for n in nodes)
    for value in list(values)[:MODELS_TRIED]:
        if value is None or value in selector[label]:
            continue
        wider = {**selector, label: (*selector[label], value)}
        task = replace(ask.task, node_selector=wider)
        if fitting.gang_fits(room, Ask(ask.ground, task, ask.others)):
            return value
    return None


def _without_topology(room: Room, ask: Ask) -> Iterator[Fix]:
    """One place that it could do without, or one other task that it could be beside."""
    task = ask.task
    changed: list[tuple[str, str, Ask]] = []
    if task.pack_within:
        text = f"pack_within {task.pack_within}"
        apart = Ask(ask.ground, replace(task, pack_within=None), ask.others)
        changed.append(("pack_within", text, apart))
    if task.spread_over:
        text = f"spread_over {task.spread_over}"
        uneven = Ask(ask.ground, replace(task, spread_over=None), ask.others)
        changed.append(("spread_over", text, uneven))
    for field, text, without in changed:
        if fitting.gang_fits(room, without):
            yield Fix(kind=FixKind.RELAX, text=f"it fits without {text}", dimension=field)
    names = {other: room.running.tasks[other].id for other in ask.others}
    for other in sorted(names, key=lambda o: names[o]):
        rest = [o for o in ask.others if o != other]
        if fitting.gang_fits(room, Ask(ask.ground, task, rest)):
            text = f"it fits if it may share a node with task {names[other]}"
            value = names[other]
            yield Fix(kind=FixKind.RELAX, text=text, dimension="separate_from", value=value)
            return
    if names and fitting.gang_fits(room, Ask(ask.ground, task)):
        text = f"it fits if it may share a node with tasks {', '.join(sorted(names.values()))}"
        yield Fix(kind=FixKind.RELAX, text=text, dimension="separate_from")


def raising_limit(room: Room, ask: Ask) -> Iterator[Fix]:
    """The one limit that keeps the task out, as high as it would have to be."""
    short = room.short_limits(ask.task, ask.task.fewest)
    if len(short) == 1 and fitting.gang_fits(room, ask):
        limit, need, use = short[0]
        text = (
            f"it fits once queue {limit.queue} may hold {use + need} {limit.dimension} "
            f"instead of {limit.limit}"
        )
        yield Fix(
            kind=FixKind.RAISE_LIMIT,
            text=text,
            queue=limit.queue,
            dimension=limit.dimension,
            quantity=use + need,
        )


def uncordoning(room: Room, ask: Ask) -> Iterator[Fix]:
    """One cordoned node that would hold the task, or the rest of the gang."""
    if ask.ground.schedulable.all():
        return
    rooms = fitting.replicas_now(room, ask, CORDON)
    now = np.where(ask.ground.schedulable, rooms, 0)
    closed = np.flatnonzero(~ask.ground.schedulable & (rooms > 0))
    layout = fitting.layout_of(ask)
    empty = fitting.replicas_when_empty(ask, CORDON)
    for node in closed[np.argsort(-rooms[closed], kind="stable")][:NODE_SHAPES_TRIED].tolist():
        opened = now.copy()
        opened[node] = rooms[node]
        if layout is not None:
            layout.when_empty = np.where(ask.ground.schedulable, empty, 0)
            layout.when_empty[node] = empty[node]
        if int(opened.sum()) >= ask.task.fewest and (layout is None or layout.holds(opened)):
            name = ask.ground.nodes[node].id
            text = f"it fits once node {name} is schedulable again"
            yield Fix(kind=FixKind.UNCORDON, text=text, node=name)
            return


def adding_node(room: Room, ask: Ask) -> Iterator[Fix]:
    """The smallest node of which one more, empty and healthy, would hold the task or the rest
    of the gang.
    """
    ground = ask.ground
    room_of_new = fitting.replicas_when_empty(ask, UNSCHEDULABLE)
    now = fitting.replicas_now(room, ask)
    layout = fitting.layout_of(ask)
    candidates = np.flatnonzero(room_of_new)
    if layout is None or ask.task.fewest == 1:
        candidates = candidates[int(now.sum()) + room_of_new[candidates] >= ask.task.fewest]
    size = (candidates, ground.capacity[1][candidates], ground.capacity[0][candidates])
    ordered = candidates[np.lexsort((*size, ground.devices[candidates]))]
    tried: set[tuple[int, ...]] = set()
    for node in ordered.tolist():
        if layout is not None and ask.task.fewest > 1:
            key = _shape(layout, room_of_new, node)
            if key in tried:
                continue
            if len(tried) == NODE_SHAPES_TRIED:
                return
            tried.add(key)
            if not _with_one_more(ask, layout, node, room_of_new).holds(
                np.append(now, room_of_new[node])
            ):
                continue
        name = ground.nodes[node].id
        devices = int(ground.devices[node])
        yield Fix(
            kind=FixKind.ADD_NODE,
            text=f"one more node like {name} would hold it",
            node=name,
            cost=devices * WHOLE_DEVICE_MILLI or 1,
        )
        return


def _shape(layout: Layout, room_of_new: Ints, node: int) -> tuple[int, ...]:
    values = [layout.pack, layout.spread]
    return int(room_of_new[node]), *(int(v[node]) for v in values if v is not None)


def _with_one_more(ask: Ask, layout: Layout, like: int, room_of_new: Ints) -> Layout:
    """The layout of a cluster with one more node in the domains of another; the domain ``node``
    gets a value more.
    """
    task = ask.task
    more = Layout(ask, np.append(layout.when_empty, room_of_new[like]))
    new = len(ask.ground.nodes)
    if more.pack is not None:
        value = new if task.pack_within == NODE_DOMAIN else int(more.pack[like])
        more.pack = np.append(more.pack, value)
    if more.spread is not None:
        value = new if task.spread_over == NODE_DOMAIN else int(more.spread[like])
        more.spread = np.append(more.spread, value)
    return more


def shrinking(room: Room, ask: Ask) -> Iterator[Fix]:
    """The largest smaller request that fits, for each dimension of which that is enough."""
    found = 0
    for dimension, asked in _asked(ask.task):
        quantity = _largest_that_fits(room, ask, dimension, asked)
        if quantity is None:
            continue
        # What is given up, as a part of what the whole gang asks for.
        weight = ask.request.weight * ask.task.fewest
        yield Fix(
            kind=FixKind.SHRINK,
            text=f"it fits with {dimension} {quantity} instead of {asked}",
            task=ask.task.id,
            dimension=dimension,
            quantity=quantity,
            cost=-(-weight * (asked - quantity) // asked),
        )
        found += 1
        if found == MOST_SHRUNK:
            return


def _asked(task: Task) -> Iterator[tuple[str, int]]:
    """What could be less: each dimension of which more than 1 is asked for."""
    request = task.request
    if task.fewest > 1:
        yield "min_replicas", task.fewest
    if request.gpus > 1:
        yield "gpus", request.gpus
    if request.gpus == 1:
        yield "gpu_milli", request.gpu_milli
    for dimension in (*NODE_DIMENSIONS, "gpu_memory_mib"):
        quantity = getattr(request, dimension)
        if quantity > 1 and (request.gpus or dimension != "gpu_memory_mib"):
            yield dimension, quantity


def shrunk(task: Task, dimension: str, quantity: int) -> Task:
    """The task with less of one dimension; fewer replicas are asked for as well as needed."""
    if dimension == "min_replicas":
        return replace(task, replicas=quantity, min_replicas=quantity, placed=())
    return replace(task, request=replace(task.request, **{dimension: quantity}))


def _largest_that_fits(room: Room, ask: Ask, dimension: str, asked: int) -> int | None:
    """Exact where less of it never fits worse: everywhere but for gangs that are spread."""

    def smaller(quantity: int) -> Ask:
        return Ask(ask.ground, shrunk(ask.task, dimension, quantity), ask.others)

    def holds_limits(quantity: int) -> bool:
        less = shrunk(ask.task, dimension, quantity)
        return not room.short_limits(less, less.fewest)

    def does(quantity: int) -> bool:
        return holds_limits(quantity) and fitting.gang_fits(room, smaller(quantity))

    if ask.task.fewest == 1 and dimension != "gpu_memory_mib":
        most = min(asked - 1, _most_free(room, ask, dimension))
        quantity = _largest(most, holds_limits)
        return quantity if quantity is not None and does(quantity) else None
    return _largest(asked - 1, does)


def _most_free(room: Room, ask: Ask, dimension: str) -> int:
    """The most of a dimension on any node that has all else for one replica; limits aside."""
    nodes = fitting.allowed(room, ask)
    if dimension in {"gpus", "gpu_milli"}:
        nodes = nodes & ~fitting.is_short(room, ask)
        found = fitting.whole_devices if dimension == "gpus" else fitting.most_milli
        return int(found(room, ask)[nodes].max(initial=0))
    k = NODE_DIMENSIONS.index(dimension)
    nodes = nodes & fitting.has_devices(room, ask) & ~_is_short_of_another(room, ask, k)
    return int(room.free[k][nodes].max(initial=0))


def _is_short_of_another(room: Room, ask: Ask, but: int) -> Flags:
    short = np.zeros(len(ask.ground.nodes), dtype=bool)
    for k, need in ask.needs:
        if k != but:
            short |= room.free[k] < need
    return short


def _largest(most: int, does: Callable[[int], bool]) -> int | None:
    """The largest number from 1 to the most that does, if less never does worse."""
    if most < 1 or not does(1):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if does(middle):
            low = middle
        else:
            high = middle - 1
    return low
