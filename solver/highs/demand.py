"""What tasks ask for, with equal tasks counted together, and how much of it could run at all."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from solver.arrays import Arrays, Ints
from solver.eligibility import queue_chains, queue_need
from solver.highs.classes import UNIT_BITS, Cluster, numbered
from solver.highs.running import Running
from solver.objective import NODE_DOMAIN
from solver.problem import REPLICAS_MAX, Problem
from solver.score import levels

MOST_GANG_CHECKS = 20_000_000
"""Gang shapes times devices: beyond so many, gangs count as if each could run."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One dimension of a queue's limit: what is left of it to tasks that aren't fixed."""

    dimension: str
    left: int
    """In units, rounded up."""
    unit: int
    """2 to the power of this is the unit."""


@dataclass(frozen=True, slots=True)
class Demand:
    """T tasks in C classes: equal in shape, level and the limits that bind them."""

    levels: tuple[int, ...]
    """Priorities, highest first."""
    limits: tuple[Limit, ...]
    task_class: Ints
    """[T]"""
    shape: Ints
    """[C]"""
    level: Ints
    """[C] index into ``levels``."""
    limit_need: Ints
    """[C, limits] units a replica counts for in each limit, 0 where it isn't bound."""
    most: list[int]
    """[C] replicas that could run at best, beyond the fixed ones."""
    fewest: list[int]
    """[C] replicas that no plan can take away, though it may move them."""
    fixed_value: list[int]
    """[levels] what the fixed replicas count for."""


def demand_of(arrays: Arrays, runs: Running, cluster: Cluster) -> Demand:
    """The classes of tasks."""
    problem = arrays.problem
    all_levels = levels(problem)
    level_of = {level: i for i, level in enumerate(all_levels)}
    limits, bound_by = _limits(problem, runs)
    level = np.array([level_of[t.priority] for t in problem.tasks], dtype=np.int64)
    chains = {rows: i for i, rows in enumerate(dict.fromkeys(bound_by.values()))}
    chain = np.array([chains[bound_by[t.queue]] for t in problem.tasks], dtype=np.int64)
    task_class, first = numbered(np.column_stack([arrays.shape, level, chain]))
    shape = arrays.shape[first]
    most, fewest = [0] * len(first), [0] * len(first)
    fixed_value = [0] * len(all_levels)
    keeps_all = not any(queue.guaranteed for queue in problem.queues)
    caps = _most_replicas(arrays, runs, cluster)
    runs_now, fixed_now = runs.count.tolist(), runs.fixed_count.tolist()
    weight = arrays.shapes.weight[arrays.shape].tolist()
    at_level, classes = level.tolist(), task_class.tolist()
    for t, c in enumerate(classes):
        most[c] += caps[t]
        fixed_value[at_level[t]] += weight[t] * fixed_now[t]
        if keeps_all and at_level[t] == 0:
            fewest[c] += runs_now[t]
    limit_need = np.zeros((len(first), len(limits)), dtype=np.int64)
    rows_of = list(chains)
    for c, t in enumerate(first.tolist()):
        for row in rows_of[chain[t]]:
            need = queue_need(problem.tasks[t].request, limits[row].dimension)
            limit_need[c, row] = need >> limits[row].unit
    return Demand(
        levels=tuple(all_levels),
        limits=limits,
        task_class=task_class,
        shape=shape,
        level=level[first],
        limit_need=limit_need,
        most=most,
        fewest=fewest,
        fixed_value=fixed_value,
    )


def _limits(
    problem: Problem, runs: Running
) -> tuple[tuple[Limit, ...], dict[str, tuple[int, ...]]]:
    """The limits, and queue -> those of them that bind its tasks.

    A queue that is over its limit may stay so, but takes nothing more (model.md, E).
    """
    chains = queue_chains(problem)
    limits: list[Limit] = []
    numbers: dict[tuple[str, str], int] = {}
    use: Counter[tuple[str, str]] = Counter()
    fixed: Counter[tuple[str, str]] = Counter()
    if any(queue.limit for queue in problem.queues):
        for t, task in enumerate(problem.tasks):
            for queue in chains[task.queue] if task.placed else ():
                for dimension in queue.limit:
                    need = len(task.placed) * queue_need(task.request, dimension)
                    use[queue.id, dimension] += need
                    fixed[queue.id, dimension] += need if runs.is_fixed[t] else 0
    for queue in problem.queues:
        for dimension, limit in queue.limit.items():
            key = queue.id, dimension
            numbers[key] = len(limits)
            left = max(limit, use[key]) - fixed[key]
            unit = max(0, left.bit_length() - UNIT_BITS)
            limits.append(Limit(dimension=dimension, left=-(-left >> unit), unit=unit))
    bound_by = {
        name: tuple(numbers[queue.id, d] for queue in chain for d in queue.limit)
        for name, chain in chains.items()
    }
    return tuple(limits), bound_by


def _most_replicas(arrays: Arrays, runs: Running, cluster: Cluster) -> list[int]:
    """[T] replicas beyond the fixed ones; what runs of a gang that can't be whole may only stay."""
    tasks = arrays.problem.tasks
    caps = [
        max(0, t.replicas - fixed)
        for t, fixed in zip(tasks, runs.fixed_count.tolist(), strict=True)
    ]
    gangs = [t for t, task in enumerate(tasks) if task.fewest > 1]
    wanted = {(int(arrays.shape[t]), tasks[t].pack_within) for t in gangs}
    if len(wanted) * max(1, len(cluster.device_class)) > MOST_GANG_CHECKS:
        return caps
    rooms = {key: _room(arrays, cluster, *key) for key in sorted(wanted, key=str)}
    for t in gangs:
        task = tasks[t]
        most = rooms[int(arrays.shape[t]), task.pack_within] + len(task.placed)
        caps[t] = min(caps[t], most) if most >= task.fewest else int(runs.count[t])
    return caps


def _room(arrays: Arrays, cluster: Cluster, shape: int, pack: str | None) -> int:
    """How many new replicas fit where nothing but fixed tasks runs, in one value of the domain."""
    shapes, given = arrays.shapes, arrays.cluster
    room = np.where(shapes.node_accepts[shapes.node_rule[shape], given.kind], REPLICAS_MAX, 0)
    for k, need in enumerate((shapes.need[shape] >> cluster.unit).tolist()):
        if need:
            room = np.minimum(room, cluster.room[:, k] // need)
    if gpus := int(shapes.gpus[shape]):
        fits = shapes.device_accepts[shapes.device_rule[shape], given.device_kind] & (
            shapes.memory_mib[shape] <= given.device_memory_mib
        )
        held = np.where(fits, cluster.free_milli // shapes.milli[shape], 0)
        node_of = np.repeat(np.arange(len(room)), np.diff(given.device_start))
        shares = np.bincount(node_of, weights=held, minlength=len(room)).astype(np.int64)
        room = np.minimum(room, shares // gpus)
    if pack is None:
        return int(room.sum())
    if pack == NODE_DOMAIN:
        return int(room.max(initial=0))
    value = given.domain_value[given.domains.index(pack)]
    inside = value >= 0
    return int(np.bincount(value[inside], weights=room[inside]).max(initial=0))
