"""Small problems with everything that the form knows, and an empty cluster for the quick answer."""

import random
from collections.abc import Iterator
from dataclasses import replace

from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task

MODELS = (("A100", 40960), ("V100", 16384), ("T4", 15360))
SHARES_MILLI = (100, 250, 333, 460, 500, 810)
NODE_DEVICES = 8


def small_problem(seed: int) -> Problem:
    """At most 8 nodes and 40 tasks with everything that the form knows: shares, gangs, selectors,
    topology, priorities, separation, queues with limits and guarantees, running tasks, cordons.

    Over the first 100 seeds demand goes from 0.3 to 9 times the devices; the median is 1.8.
    """
    rng = random.Random(seed)
    nodes = tuple(node_of(rng, index, (2, 4, 8)) for index in range(rng.randint(4, 8)))
    total_milli = 1000 * sum(len(node.devices) for node in nodes)
    queues = (
        Queue(id="research", guaranteed={"gpu_milli": total_milli // 4}),
        Queue(id="product", guaranteed={"gpu_milli": total_milli // 3}),
        Queue(id="guests", limit={"gpu_milli": total_milli // 2}),
    )
    tasks = tuple(_mixed_task(rng, index, queues) for index in range(rng.randint(10, 40)))
    tasks = tuple(_started(rng, nodes, tasks))
    nodes = tuple(replace(node, schedulable=rng.random() > 0.05) for node in nodes)
    return Problem(
        version=1,
        nodes=nodes,
        tasks=tasks,
        queues=queues,
        budget=Budget(seconds=5.0, workers=2, seed=seed, max_moves=rng.choice((None, 0, 3))),
    )


def large_problem(seed: int, *, nodes: int, tasks: int) -> Problem:
    """An empty cluster of nodes with eight devices, and single tasks that wait: 70 % shares, the
    others 1 to 4 devices, 0.9 devices in the mean. With ten tasks a node demand is about 110 %.
    """
    rng = random.Random(seed)
    return Problem(
        version=1,
        nodes=tuple(node_of(rng, index, (NODE_DEVICES,)) for index in range(nodes)),
        tasks=tuple(
            Task(id=f"t{index}", request=_gpu_request(rng, 0.7, (1, 1, 2, 4)))
            for index in range(tasks)
        ),
        objective=("placed",),
        budget=Budget(seconds=0),
    )


def node_of(rng: random.Random, index: int, sizes: tuple[int, ...]) -> Node:
    """A node of one of these sizes: one model, two NUMA nodes, linked pairs unless they are T4s."""
    model, memory_mib = rng.choice(MODELS)
    size = rng.choice(sizes)
    return Node(
        id=f"n{index}",
        cpu_milli=12_000 * size,
        memory_mib=65_536 * size,
        labels={"zone": rng.choice("ab")},
        domains={"rack": f"r{index // 3}"},
        devices=tuple(
            Device(
                id=f"g{device}",
                model=model,
                memory_mib=memory_mib,
                numa=2 * device // size,
                links={f"g{device ^ 1}": "nvlink"} if model != "T4" else {},
            )
            for device in range(size)
        ),
    )


def _gpu_request(rng: random.Random, share_ratio: float, sizes: tuple[int, ...]) -> Request:
    if rng.random() < share_ratio:
        milli = rng.choice(SHARES_MILLI)
        return Request(cpu_milli=4000, memory_mib=8192, gpus=1, gpu_milli=milli)
    gpus = rng.choice(sizes)
    return Request(cpu_milli=8000 * gpus, memory_mib=16_384 * gpus, gpus=gpus)


def _mixed_task(rng: random.Random, index: int, queues: tuple[Queue, ...]) -> Task:
    replicas = rng.choice((1, 1, 1, 1, 2, 4))
    is_gang = replicas > 1
    topology = rng.choice((None, "pack", "spread")) if is_gang else None
    request = Request(cpu_milli=6000, memory_mib=8192)
    if rng.random() < 0.9:
        request = _gpu_request(rng, 0.5, (1, 1, 2) if is_gang else (1, 1, 2, 4, 8))
    return Task(
        id=f"t{index}",
        queue=rng.choice(queues).id,
        priority=rng.choice((0, 0, 0, 5, 10)),
        replicas=replicas,
        min_replicas=replicas - 1 if is_gang and rng.random() < 0.3 else None,
        request=request,
        gpu_models=("A100", "V100") if request.gpus and rng.random() < 0.2 else (),
        node_selector={"zone": ("a",)} if rng.random() < 0.15 else {},
        pack_within="rack" if topology == "pack" else None,
        spread_over="node" if topology == "spread" else None,
        separate_from=(f"t{rng.randrange(index)}",) if index and rng.random() < 0.1 else (),
        preemptible=rng.random() < 0.8,
        move_cost=rng.randint(1, 3),
        evict_cost=rng.randint(1, 5),
    )


def _started(
    rng: random.Random, nodes: tuple[Node, ...], tasks: tuple[Task, ...]
) -> Iterator[Task]:
    """About a third of the single GPU tasks run already, first fit on a random node."""
    free = {(node.id, device.id): 1000 for node in nodes for device in node.devices}
    for task in tasks:
        request = task.request
        if task.replicas > 1 or not request.gpus or rng.random() > 0.4:
            yield task
            continue
        node = rng.choice(nodes)
        fitting = [d.id for d in node.devices if free[node.id, d.id] >= request.gpu_milli]
        if len(fitting) < request.gpus:
            yield task
            continue
        held = tuple(fitting[: request.gpus])
        for device in held:
            free[node.id, device] -= request.gpu_milli
        yield replace(task, placed=(Slot(node=node.id, devices=held),))
