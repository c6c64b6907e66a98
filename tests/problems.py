"""Generated placement problems: every feature of the form, seeded, small enough to be solved
exactly.
"""

import random
from dataclasses import replace

from solver.problem import Budget, Device, Node, Problem, Queue, Request, Slot, Task

MODELS = (("A100", 40960), ("V100", 16384), ("T4", 15360))
RACKS = ("r1", "r2", "r3")
SHARES_MILLI = (100, 190, 250, 333, 460, 500, 600, 810)


def random_problem(
    seed: int, *, nodes: int = 8, devices: int = 8, tasks: int = 40, seconds: float = 5.0
) -> Problem:
    """A mixed problem with at most so many nodes, devices a node and tasks.

    Shares, gangs, selectors, topology, priorities, running tasks, queues, cordons and lost devices,
    in amounts that differ from seed to seed; some clusters have room for all, some for half.
    """
    rng = random.Random(seed)
    cluster = _nodes(rng, rng.randint(max(1, nodes // 2), nodes), devices)
    queues = _queues(rng, cluster)
    count = rng.randint(max(1, tasks // 2), tasks)
    asked = tuple(_task(rng, i, queues, count) for i in range(count))
    asked = _run_some(rng, cluster, asked)
    cluster = tuple(
        replace(node, schedulable=rng.random() > 0.05, devices=_some_unhealthy(rng, node))
        for node in cluster
    )
    max_moves = rng.choice((None, None, 0, 2, 5))
    return Problem(
        version=1,
        nodes=cluster,
        tasks=asked,
        queues=queues,
        budget=Budget(seconds=seconds, workers=2, seed=seed, max_moves=max_moves),
    )


def tiny_problem(seed: int) -> Problem:
    """At most 3 nodes and 4 tasks: small enough for trying everything."""
    return random_problem(seed, nodes=3, devices=2, tasks=4)


def with_equal_nodes(problem: Problem) -> Problem:
    """The problem with every node on which nothing runs like the first of these."""
    used = {slot.node for task in problem.tasks for slot in task.placed}
    free = [node for node in problem.nodes if node.id not in used]
    nodes = (n if n.id in used else replace(free[0], id=n.id) for n in problem.nodes)
    return replace(problem, nodes=tuple(nodes))


def with_watts(problem: Problem) -> Problem:
    """The problem with something to count for ``power``: nodes and devices draw by their make."""
    nodes = tuple(
        replace(
            node,
            idle_watts=50 + len(node.devices),
            devices=tuple(replace(d, active_watts=d.memory_mib // 100) for d in node.devices),
        )
        for node in problem.nodes
    )
    return replace(problem, nodes=nodes)


def _nodes(rng: random.Random, count: int, devices: int) -> tuple[Node, ...]:
    shapes = [_shape(rng, devices) for _ in range(rng.randint(1, 3))]
    return tuple(_node(rng, i, rng.choice(shapes)) for i in range(count))


def _shape(rng: random.Random, devices: int) -> tuple[str, int, int, str]:
    model, memory_mib = rng.choice(MODELS)
    size = rng.choice([n for n in (0, 1, 2, 4, 4, 8, 8, 8) if n <= devices])
    return model, memory_mib, size, rng.choice(("flat", "halves", "pairs", "none"))


def _node(rng: random.Random, i: int, shape: tuple[str, int, int, str]) -> Node:
    model, memory_mib, size, links = shape
    return Node(
        id=f"n{i}",
        cpu_milli=rng.choice((16000, 64000, 96000)),
        memory_mib=rng.choice((65536, 262144)),
        disk_mib=rng.choice((0, 1_000_000)),
        network_mbps=rng.choice((0, 10_000)),
        labels={"zone": rng.choice("ab")},
        domains={"rack": rng.choice(RACKS)} if rng.random() < 0.9 else {},
        devices=tuple(
            Device(
                id=f"g{j}",
                model=model,
                memory_mib=memory_mib,
                numa=j * 2 // size,
                links={f"g{k}": "nvlink" for k in range(size) if _is_linked(links, j, k, size)},
            )
            for j in range(size)
        ),
    )


def _is_linked(links: str, first: int, second: int, size: int) -> bool:
    if first == second:
        return False
    match links:
        case "flat":
            return True
        case "halves":
            return first * 2 // size == second * 2 // size
        case "pairs":
            return first // 2 == second // 2
        case _:
            return False


def _queues(rng: random.Random, cluster: tuple[Node, ...]) -> tuple[Queue, ...]:
    total = 1000 * sum(len(node.devices) for node in cluster)
    limit = {"gpu_milli": total // 2} if rng.random() < 0.4 else {}
    return (
        Queue(id="all", limit={"gpu_milli": total * 3 // 4} if rng.random() < 0.2 else {}),
        Queue(id="research", parent="all", limit=limit, guaranteed={"gpu_milli": total // 4}),
        Queue(id="product", parent="all", weight=2, guaranteed={"gpu_milli": total // 3}),
    )


def _task(rng: random.Random, i: int, queues: tuple[Queue, ...], count: int) -> Task:
    replicas = rng.choice((1, 1, 1, 1, 2, 3, 4))
    spread = rng.choice((None, None, "node", "rack")) if replicas > 1 else None
    pack = rng.choice((None, None, "node", "rack")) if replicas > 1 and spread is None else None
    apart = (f"t{rng.randrange(i)}",) if i and rng.random() < 0.15 else ()
    return Task(
        id=f"t{i}",
        queue=rng.choice(("default", *(queue.id for queue in queues))),
        priority=rng.choice((0, 0, 0, 5, 10)),
        replicas=replicas,
        min_replicas=rng.choice((None, None, max(1, replicas - 1))),
        request=_request(rng),
        gpu_models=tuple(rng.sample([m for m, _ in MODELS], 2)) if rng.random() < 0.2 else (),
        node_selector={"zone": (rng.choice("ab"),)} if rng.random() < 0.15 else {},
        pack_within=pack,
        spread_over=spread,
        separate_from=apart,
        preemptible=rng.random() < 0.8,
        move_cost=rng.randint(0, 3),
        evict_cost=rng.randint(1, 5),
    )


def _request(rng: random.Random) -> Request:
    kind = rng.random()
    cpu_milli = rng.choice((500, 1000, 2000, 4000, 6000))
    memory_mib = rng.choice((512, 4096, 12288, 16384))
    if kind < 0.45:
        return Request(
            cpu_milli=cpu_milli,
            memory_mib=memory_mib,
            gpus=1,
            gpu_milli=rng.choice(SHARES_MILLI),
            gpu_memory_mib=rng.choice((0, 0, 2048, 8192)),
        )
    if kind < 0.9:
        gpus = rng.choice((1, 1, 1, 2, 2, 4, 8))
        return Request(cpu_milli=cpu_milli * gpus, memory_mib=memory_mib * gpus, gpus=gpus)
    return Request(cpu_milli=cpu_milli, memory_mib=memory_mib, disk_mib=rng.choice((0, 50_000)))


def _run_some(
    rng: random.Random, cluster: tuple[Node, ...], tasks: tuple[Task, ...]
) -> tuple[Task, ...]:
    """Lets about a third of the tasks run somewhere, first fit, on devices nothing else holds."""
    free = {(node.id, device.id): 1000 for node in cluster for device in node.devices}
    started = []
    for task in tasks:
        if rng.random() > 0.35:
            started.append(task)
            continue
        slots: list[Slot] = []
        for _ in range(task.replicas):
            for node in rng.sample(cluster, len(cluster)):
                share = task.request.gpu_milli
                open_devices = [d.id for d in node.devices if free[node.id, d.id] >= share]
                if len(open_devices) >= task.request.gpus:
                    held = tuple(open_devices[: task.request.gpus])
                    for device in held:
                        free[node.id, device] -= share
                    slots.append(Slot(node=node.id, devices=held))
                    break
        started.append(replace(task, placed=tuple(slots)))
    return tuple(started)


def _some_unhealthy(rng: random.Random, node: Node) -> tuple[Device, ...]:
    return tuple(replace(device, healthy=rng.random() > 0.03) for device in node.devices)
