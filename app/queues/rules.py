"""What may be wrong with a queue among the others. Pure; every fault at once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from app.db.tables import Queue
from app.errors import Fault
from app.queues.tree import Tree
from protocol.task import Request

DIMENSIONS = tuple(Request.model_fields)
"""What a queue's share is counted in: what a replica may ask for."""
OF_MODEL = "gpu_milli:"
"""Prefix of the dimension that counts the devices of one model alone."""
DEPTH_MAX = 8
_NAMED_MAX = 5

Quantities = Mapping[str, int]
"""Dimension -> quantity."""


def faults(wanted: Queue, others: Iterable[Queue]) -> list[Fault]:
    """What is wrong with a queue as it is to be, beside the others as they are."""
    queues = {queue.name: queue for queue in others} | {wanted.name: wanted}
    found = [*_unknown_dimensions(wanted), *_beyond_limit(wanted)]
    misplaced = _misplaced(wanted, queues)
    return [*found, *(misplaced or _beyond_parents(wanted, queues))]


def needs(queues: Mapping[str, Queue]) -> Mapping[str, Quantities]:
    """What each queue must be able to have back: its guarantee, or what the queues below are
    guaranteed in sum, whichever is more."""
    tree = Tree({name: queue.parent for name, queue in queues.items()})

    @cache
    def need(name: str) -> Quantities:
        below = [need(child) for child in tree.children(name)]
        own = queues[name].guaranteed
        return {
            dimension: max(own.get(dimension, 0), sum(one.get(dimension, 0) for one in below))
            for dimension in {*own, *(key for one in below for key in one)}
        }

    return {name: need(name) for name in queues}


def notes(queues: Iterable[Queue], capacity: Quantities) -> list[str]:
    """Where the guarantees of the top together are more than the cluster has. That's no fault:
    nodes come and go; where it is so, each gets its part."""
    by_name = {queue.name: queue for queue in queues}
    every = needs(by_name)
    top = [every[name] for name, queue in by_name.items() if queue.parent is None]
    found = []
    for dimension in sorted({key for one in top for key in one}):
        total = sum(one.get(dimension, 0) for one in top)
        if capacity and total > capacity.get(dimension, 0):
            found.append(
                f"{dimension}: the queues at the top are guaranteed {total} together, and the "
                f"cluster has {capacity.get(dimension, 0)}: each gets its part of that"
            )
    return found


def _unknown_dimensions(wanted: Queue) -> list[Fault]:
    return [
        Fault(
            path=f"{field}.{dimension}",
            value=dimension,
            reason=f"no such dimension: use {', '.join(DIMENSIONS)} or {OF_MODEL}MODEL",
        )
        for field, quantities in (("guaranteed", wanted.guaranteed), ("limit", wanted.limit))
        for dimension in quantities
        if dimension not in DIMENSIONS
        and not (dimension.startswith(OF_MODEL) and dimension != OF_MODEL)
    ]


def _beyond_limit(wanted: Queue) -> list[Fault]:
    found = [
        Fault(
            path=f"guaranteed.{dimension}",
            value=quantity,
            reason=f"more than the queue's own limit of {wanted.limit[dimension]}",
        )
        for dimension, quantity in wanted.guaranteed.items()
        if quantity > wanted.limit.get(dimension, quantity)
    ]
    of_models = sum(
        quantity
        for dimension, quantity in wanted.guaranteed.items()
        if dimension.startswith(OF_MODEL)
    )
    limit = wanted.limit.get("gpu_milli")
    if limit is not None and of_models > limit:
        found.append(
            Fault(
                path="limit.gpu_milli",
                value=limit,
                reason=f"less than what is guaranteed of single models: {of_models} in sum",
            )
        )
    return found


def _misplaced(wanted: Queue, queues: Mapping[str, Queue]) -> list[Fault]:
    """A parent that isn't there or is below the queue, or a tree too deep."""
    parent = wanted.parent
    if parent is None:
        reason = None
    elif parent not in queues:
        reason = "no queue has this name: create it first"
    elif parent == wanted.name:
        reason = "a queue can't be above itself"
    elif wanted.name in Tree(_parents(queues, without=wanted.name)).path(parent):
        reason = f"it's below {wanted.name} itself: that would be a ring"
    else:
        reason = None
    if reason is None:
        tree = Tree(_parents(queues))
        depth = len(tree.path(wanted.name)) + tree.height(wanted.name) - 1
        if depth > DEPTH_MAX:
            reason = f"the tree would have {depth} levels: {DEPTH_MAX} are the most"
    return [] if reason is None else [Fault(path="parent", value=parent, reason=reason)]


def _parents(queues: Mapping[str, Queue], *, without: str = "") -> dict[str, str | None]:
    """By name, the queue above; ``without`` is taken for one at the top."""
    return {name: None if name == without else queue.parent for name, queue in queues.items()}


def _beyond_parents(wanted: Queue, queues: Mapping[str, Queue]) -> list[Fault]:
    """Guarantees that a queue from here to the top couldn't give what is below it."""
    tree = Tree(_parents(queues))
    every = needs(queues)
    found = []
    for name in reversed(tree.path(wanted.name)):
        queue = queues[name]
        below = tree.children(name)
        for dimension in sorted({*queue.guaranteed, *queue.limit}):
            given, word = _has(queue, dimension)
            sharers = [child for child in below if every[child].get(dimension, 0)]
            total = sum(every[child][dimension] for child in sharers)
            if total <= given:
                continue
            shown = f"{_named(sharers)} below {name} are guaranteed {total} in sum"
            own = queue is wanted
            place = f"{word}.{dimension}" if own else f"guaranteed.{dimension}"
            value = given if own else wanted.guaranteed.get(dimension)
            found.append(
                Fault(
                    path=place if own or value is not None else "parent",
                    value=value if own or value is not None else wanted.parent,
                    reason=shown if own else f"{shown}, and {name}'s {_WORDS[word]} is {given}",
                )
            )
    return found


_WORDS = {"guaranteed": "guarantee", "limit": "limit"}


def _has(queue: Queue, dimension: str) -> tuple[int, str]:
    """What the queue can give at most to those below it, and the field that says so."""
    if dimension in queue.guaranteed:
        return queue.guaranteed[dimension], "guaranteed"
    return queue.limit[dimension], "limit"


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
