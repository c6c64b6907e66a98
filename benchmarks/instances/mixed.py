"""Large clusters with many kinds of requests: gangs, racks, separation, models, selectors."""

import random
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.instances.small import NODE_DEVICES, SHARES_MILLI, node_of
from solver.problem import WHOLE_DEVICE_MILLI, Budget, Node, Problem, Request, Task

RACK_NODES = 16
BLOCK_NODES = 64
GANG_RATIO = 0.2
SIZES = (1, 2, 4, 8)


def mixed_problem(seed: int, *, nodes: int, demand: float, priorities: tuple[int, ...]) -> Problem:
    """An empty cluster of nodes with eight devices in racks of 16 and blocks of 64 nodes, and
    tasks that ask for ``demand`` times its devices.

    One task in five is a gang of 2 to 16, of which a third each is packed within a rack or block
    and spread over nodes or racks, and three in ten may run short. Of all tasks a fifth takes two
    of the three models only, a tenth one zone, and one in twenty stays away from another.
    """
    rng = random.Random(seed)
    cluster = tuple(_placed_in_rack(rng, index) for index in range(nodes))
    left_milli = demand * WHOLE_DEVICE_MILLI * NODE_DEVICES * nodes
    tasks: list[Task] = []
    while left_milli > 0:
        task = _task(rng, len(tasks), priorities)
        tasks.append(task)
        left_milli -= task.replicas * task.request.gpus * task.request.gpu_milli
    return Problem(
        version=1,
        nodes=cluster,
        tasks=tuple(tasks),
        objective=("placed",),
        budget=Budget(seconds=0),
    )


def huge_problem(seed: int, *, nodes: int, tasks: int) -> Problem:
    """An empty cluster of nodes with eight devices, and single tasks that wait: 40 % shares, the
    others 1, 2, 4 or 8 devices; a tenth takes one model only. Four tasks a node ask for 1.2 times
    the devices.
    """
    rng = random.Random(seed)
    return Problem(
        version=1,
        nodes=tuple(node_of(rng, index, (NODE_DEVICES,)) for index in range(nodes)),
        tasks=tuple(_singles(rng, tasks)),
        objective=("placed",),
        budget=Budget(seconds=0),
    )


def _singles(rng: random.Random, tasks: int) -> Iterator[Task]:
    for index in range(tasks):
        if rng.random() < 0.4:
            request = Request(
                cpu_milli=rng.choice((2000, 4000, 6000)),
                memory_mib=8192 * rng.choice((1, 2)),
                gpus=1,
                gpu_milli=rng.choice(SHARES_MILLI),
            )
        else:
            request = _whole(rng, SIZES, (1, 2, 3))
        models = ("A100",) if rng.random() < 0.1 else ()
        yield Task(id=f"t{index}", request=request, gpu_models=models)


def _placed_in_rack(rng: random.Random, index: int) -> Node:
    node = node_of(rng, index, (NODE_DEVICES,))
    domains = {"rack": f"r{index // RACK_NODES}", "block": f"b{index // BLOCK_NODES}"}
    return replace(node, domains=domains)


def _task(rng: random.Random, index: int, priorities: tuple[int, ...]) -> Task:
    is_gang = rng.random() < GANG_RATIO
    replicas = rng.choice((2, 2, 4, 4, 8, 16)) if is_gang else 1
    if rng.random() < (0.2 if is_gang else 0.5):
        request = Request(
            cpu_milli=rng.choice((2000, 4000, 8000)),
            memory_mib=8192,
            gpus=1,
            gpu_milli=rng.choice(SHARES_MILLI),
        )
    else:
        request = _whole(rng, SIZES if is_gang else (1, 1, 1, 2, 4, 8), (1, 2))
    topology = rng.choice((None, "pack", "spread")) if is_gang else None
    may_run_short = is_gang and rng.random() < 0.3
    return Task(
        id=f"t{index}",
        priority=rng.choice(priorities),
        replicas=replicas,
        min_replicas=replicas // 2 if may_run_short else None,
        request=request,
        gpu_models=("A100", "V100") if rng.random() < 0.2 else (),
        node_selector={"zone": ("a",)} if rng.random() < 0.1 else {},
        pack_within=rng.choice(("rack", "block")) if topology == "pack" else None,
        spread_over=rng.choice(("node", "rack")) if topology == "spread" else None,
        separate_from=(f"t{rng.randrange(index)}",) if index and rng.random() < 0.05 else (),
    )


def _whole(rng: random.Random, sizes: tuple[int, ...], memory_factors: tuple[int, ...]) -> Request:
    gpus = rng.choice(sizes)
    memory_mib = 16_384 * gpus * rng.choice(memory_factors)
    return Request(cpu_milli=8000 * gpus, memory_mib=memory_mib, gpus=gpus)
