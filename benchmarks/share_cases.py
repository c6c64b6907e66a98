"""How long it takes to say how much is each queue's (docs/model.md, Q3)."""

import random
import statistics
import time
from collections.abc import Iterator

from benchmarks.harness import Case
from solver.problem import Queue
from solver.shares.entitlements import Quantities, Tree, entitlements

QUEUES, PARENTS, DIMENSIONS, TIMES = 200, 20, 10, 25


def cases() -> Iterator[Case]:
    """200 queues in 20 parents, 10 resources, guarantees above and limits below."""
    tree, demand, capacity = _cluster(random.Random(0))
    found = entitlements(tree, demand, capacity)
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        entitlements(tree, demand, capacity)
        seconds.append(time.perf_counter() - begun)
    given = sum(found[queue.id].whole["d0"] for queue in tree.below[None])
    if given != capacity["d0"]:
        raise AssertionError(f"{given} of {capacity['d0']} given, and more is wanted")
    yield Case(
        case=f"entitlements, {QUEUES} queues, {DIMENSIONS} resources",
        value=statistics.median(seconds),
        unit="s",
        better="lower",
        must=0.05,
        aim=0.01,
        note=f"median of {TIMES}; a tree of two levels",
    )


def _cluster(rng: random.Random) -> tuple[Tree, dict[str, Quantities], Quantities]:
    names = [f"d{number}" for number in range(DIMENSIONS)]
    queues = [
        Queue(id=f"parent-{n}", guaranteed={name: rng.randrange(300) for name in names})
        for n in range(PARENTS)
    ]
    queues += [
        Queue(
            id=f"queue-{n}",
            parent=f"parent-{n % PARENTS}",
            weight=rng.randrange(1, 9),
            limit={name: rng.randrange(100, 900) for name in names[:3]},
        )
        for n in range(QUEUES - PARENTS)
    ]
    demand = {queue.id: {name: rng.randrange(500) for name in names} for queue in queues[PARENTS:]}
    return Tree(queues), demand, dict.fromkeys(names, 20_000)
