"""Problems cut from the openb trace of a real cluster: 1,213 nodes, 6,212 devices, four lists."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from app.planning.traces import Source, parse_nodes, parse_tasks
from solver.problem import WHOLE_DEVICE_MILLI, Budget, Node, Problem, Request, Slot, Task

LISTS = ("default", "gpushare40", "gpuspec33", "multigpu50")
JITTER = 0.05
JITTER_MEMORY_MIB = 200
PRIORITIES = (0, 1, 2, 4)
TRIES = 60
"""Random nodes that a task is offered before it is left out of a cluster packed at random."""


def source(data: Path, name: str) -> Source:
    """A file of the openb trace."""
    path = data / "openb" / f"{name}.csv"
    return Source(name=path.name, data=path.read_bytes())


def openb_list(data: Path, name: str) -> Problem:
    """All nodes of the trace and all tasks of one of its lists; all wait, none has run."""
    return Problem(
        version=1,
        nodes=parse_nodes(source(data, "openb_node_list_gpu_node")),
        tasks=parse_tasks(source(data, f"openb_pod_list_{name}")),
        objective=("placed",),
        budget=Budget(seconds=0),
    )


def openb_problem(data: Path, *, nodes: int, demand: float) -> Problem:
    """The trace's first nodes and as many tasks of its default list as ask for ``demand`` times
    their GPU milli; all tasks wait, none has run.
    """
    whole = openb_list(data, "default")
    cluster = whole.nodes[:nodes]
    return replace(whole, nodes=cluster, tasks=_until(whole.tasks, demand * _milli_of(cluster)))


def jittered(problem: Problem, seed: int) -> Problem:
    """Each request for CPU and for a share is off by up to 5 %, memory by up to 200 MiB more: next
    to no two tasks are equal.
    """
    rng = random.Random(seed)
    tasks = (replace(task, request=_jittered(rng, task.request)) for task in problem.tasks)
    return replace(problem, tasks=tuple(tasks))


def overloaded(problem: Problem, seed: int, *, factor: float) -> Problem:
    """``factor`` times as many tasks, the added ones clones of random ones, with random
    priorities.
    """
    rng = random.Random(seed)
    more = round((factor - 1) * len(problem.tasks))
    clones = (replace(rng.choice(problem.tasks), id=f"clone-{index}") for index in range(more))
    tasks = (replace(task, priority=rng.choice(PRIORITIES)) for task in (*problem.tasks, *clones))
    return replace(problem, tasks=tuple(tasks))


def excerpt(problem: Problem, seed: int, *, nodes: int, demand: float) -> Problem:
    """Random nodes, and random tasks that ask for ``demand`` times their GPU milli."""
    rng = random.Random(seed)
    cluster = tuple(rng.sample(problem.nodes, nodes))
    shuffled = rng.sample(problem.tasks, len(problem.tasks))
    return replace(problem, nodes=cluster, tasks=_until(shuffled, demand * _milli_of(cluster)))


def packed_at_random(problem: Problem, seed: int, *, load: float) -> Problem:
    """Random tasks run on random devices of random nodes until ``load`` of all GPU milli is held;
    nothing waits.
    """
    rng = random.Random(seed)
    slots = _random_slots(rng, problem)
    left_milli = load * _milli_of(problem.nodes)
    running = []
    for task, slot in slots:
        if left_milli <= 0:
            break
        running.append(replace(task, placed=(slot,)))
        left_milli -= task.request.gpus * task.request.gpu_milli
    return replace(problem, tasks=tuple(running))


def _random_slots(rng: random.Random, problem: Problem) -> Iterator[tuple[Task, Slot]]:
    nodes = {node.id: node for node in problem.nodes}
    cpu_milli = {node.id: node.cpu_milli for node in problem.nodes}
    memory_mib = {node.id: node.memory_mib for node in problem.nodes}
    free_milli = {
        node.id: {device.id: WHOLE_DEVICE_MILLI for device in node.devices}
        for node in problem.nodes
    }
    names = list(nodes)
    for task in rng.sample(problem.tasks, len(problem.tasks)):
        request = task.request
        for name in (rng.choice(names) for _ in range(TRIES)):
            fitting = [
                device.id
                for device in nodes[name].devices
                if free_milli[name][device.id] >= request.gpu_milli
                and (not task.gpu_models or device.model in task.gpu_models)
            ]
            if (
                cpu_milli[name] >= request.cpu_milli
                and memory_mib[name] >= request.memory_mib
                and len(fitting) >= request.gpus
            ):
                held = tuple(rng.sample(fitting, request.gpus))
                cpu_milli[name] -= request.cpu_milli
                memory_mib[name] -= request.memory_mib
                for device in held:
                    free_milli[name][device] -= request.gpu_milli
                yield task, Slot(node=name, devices=held)
                break


def _jittered(rng: random.Random, request: Request) -> Request:
    gpu_milli = request.gpu_milli
    if request.is_share:
        gpu_milli = max(1, min(WHOLE_DEVICE_MILLI - 1, round(gpu_milli * _factor(rng))))
    return replace(
        request,
        cpu_milli=round(request.cpu_milli * _factor(rng)),
        memory_mib=request.memory_mib + rng.randint(0, JITTER_MEMORY_MIB),
        gpu_milli=gpu_milli,
    )


def _factor(rng: random.Random) -> float:
    return rng.uniform(1 - JITTER, 1 + JITTER)


def _milli_of(nodes: tuple[Node, ...]) -> int:
    return WHOLE_DEVICE_MILLI * sum(len(node.devices) for node in nodes)


def _until(tasks: tuple[Task, ...] | list[Task], wanted_milli: float) -> tuple[Task, ...]:
    """The first tasks, up to the one with which they ask for so much."""
    taken = []
    for task in tasks:
        if wanted_milli <= 0:
            break
        taken.append(task)
        wanted_milli -= task.request.gpus * task.request.gpu_milli
    return tuple(taken)
