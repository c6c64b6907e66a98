"""Entitlements: what each queue may hold, by water-filling down the tree of queues."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from solver.problem import Queue
from solver.shares.filling import Claim, fill

ONE = 2**20
"""The weight 1, so that a weight shifted by history is still a whole number."""

Quantities = Mapping[str, int]
"""Dimension -> quantity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What a queue may hold of each dimension."""

    whole: Quantities
    """With the queues below it."""
    own: Quantities
    """What its own tasks may hold of that; all of it where no queue is below."""


class Tree:
    """Queues by what is above them. Those that nobody listed are at the top, of weight 1."""

    def __init__(self, queues: Sequence[Queue]) -> None:
        self.queues = {queue.id: queue for queue in queues}
        self.below: dict[str | None, list[Queue]] = {}
        for queue in queues:
            parent = queue.parent if queue.parent in self.queues else None
            self.below.setdefault(parent, []).append(queue)

    def bottom_up(self) -> list[Queue]:
        """Each queue after all that are below it."""
        found: list[Queue] = []
        layer = list(self.below.get(None, ()))
        while layer:
            found += layer
            layer = [child for queue in layer for child in self.below.get(queue.id, ())]
        return found[::-1]

    def chain(self, queue: str) -> list[str]:
        """The queue and those above it, as far as they are known."""
        found: list[str] = []
        at: str | None = queue
        while at is not None and at in self.queues:
            found.append(at)
            at = self.queues[at].parent
        return found


def entitlements(
    tree: Tree,
    demand: Mapping[str, Quantities],
    capacity: Quantities,
    *,
    weights: Mapping[str, int] | None = None,
    guaranteed_only: bool = False,
    units: Quantities | None = None,
) -> dict[str, Entitlement]:
    """What each queue may hold of each dimension of ``capacity`` (Q3).

    ``demand`` is by queue what its own tasks hold or want; ``weights`` replaces the queues' own, in
    units of ``ONE``. With ``guaranteed_only`` nothing is shared out at the top: queues hold what is
    guaranteed to them or to a queue above. ``units`` gives by dimension what can't be split: shares
    are whole multiples of it.

    >>> tree = Tree([Queue(id="a", guaranteed={"gpus": 6}), Queue(id="b"), Queue(id="c")])
    >>> wanted = {"a": {"gpus": 2}, "b": {"gpus": 9}, "c": {"gpus": 3}}
    >>> {q: dict(e.whole) for q, e in entitlements(tree, wanted, {"gpus": 12}).items()}
    {'a': {'gpus': 2}, 'b': {'gpus': 7}, 'c': {'gpus': 3}}
    """
    if weights is None:
        weights = {queue.id: queue.weight * ONE for queue in tree.queues.values()}
    whole: dict[str, dict[str, int]] = {queue: {} for queue in tree.queues}
    own: dict[str, dict[str, int]] = {queue: {} for queue in tree.queues}
    order = tree.bottom_up()
    for dimension, amount in capacity.items():
        unit = max((units or {}).get(dimension, 1), 1)
        wanted = _useful(tree, order, dimension, demand)
        rights = _rights(tree, order, dimension, wanted)
        given: dict[str | None, int] = {None: amount // unit}
        for parent in (None, *(queue.id for queue in reversed(order))):
            children = tree.below.get(parent, ())
            claims = [
                Claim(
                    floor=rights[queue.id] // unit,
                    ceiling=wanted[queue.id] // unit,
                    weight=0 if guaranteed_only and parent is None else weights[queue.id],
                )
                for queue in children
            ]
            if parent is not None:
                mine = demand.get(parent, {}).get(dimension, 0)
                if not children:
                    own[parent][dimension] = given[parent] * unit
                    continue
                claims.append(Claim(floor=0, ceiling=mine // unit, weight=ONE))
            shares = fill(given[parent], claims)
            for queue, share in zip(children, shares, strict=False):
                given[queue.id] = share
                whole[queue.id][dimension] = share * unit
            if parent is not None:
                own[parent][dimension] = shares[-1] * unit
    return {queue: Entitlement(whole=whole[queue], own=own[queue]) for queue in tree.queues}


def _useful(
    tree: Tree, order: Iterable[Queue], dimension: str, demand: Mapping[str, Quantities]
) -> dict[str, int]:
    """By queue, what it and those below could use: their demand within all their limits."""
    useful = {queue: demand.get(queue, {}).get(dimension, 0) for queue in tree.queues}
    for queue in order:
        if dimension in queue.limit:
            useful[queue.id] = min(useful[queue.id], queue.limit[dimension])
        if queue.parent in useful:
            useful[queue.parent] += useful[queue.id]
    return useful


def _rights(
    tree: Tree, order: Iterable[Queue], dimension: str, wanted: Mapping[str, int]
) -> dict[str, int]:
    """By queue, what it can have before anything is shared out: its guarantee, or what is
    guaranteed below it if that is more, as far as it's wanted."""
    rights: dict[str, int] = {}
    below = dict.fromkeys(tree.queues, 0)
    for queue in order:
        right = max(queue.guaranteed.get(dimension, 0), below[queue.id])
        rights[queue.id] = min(right, wanted[queue.id])
        if queue.parent in below:
            below[queue.parent] += rights[queue.id]
    return rights
