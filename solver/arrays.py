"""The problem as flat arrays: what the gears for large problems count with.

Sizes: N nodes, D devices (those of one node side by side), T tasks, S shapes, K = 4 dimensions of
a node. Tasks of one shape see every node alike: they differ at most in name, queue, priority,
number of replicas and where they run. Equal rows of the cluster are not merged here.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from solver.eligibility import accepts, matches_model, value_of
from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS
from solver.problem import Device, Node, Problem, Request

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_PEERS = 16
"""Pairs of devices are costed on nodes of up to so many; on larger ones a pair costs nothing."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes and devices. Devices ``device_start[n]:device_start[n + 1]`` are those of node n."""

    room: Ints
    """[N, K] capacity, in the order of ``NODE_DIMENSIONS``."""
    kind: Ints
    """[N] nodes of one kind are accepted by the same rules (labels, domains, cordon)."""
    device_start: Ints
    """[N + 1]"""
    device_kind: Ints
    """[D] devices of one kind are accepted by the same rules (model, health)."""
    device_memory_mib: Ints
    """[D]"""
    wiring: Ints
    """[N] index into ``pair_cost``; nodes that are wired alike share it."""
    pair_cost: Ints
    """[wirings, MOST_PEERS, MOST_PEERS] cost (model.md, O4) of holding both devices of a pair."""
    domains: tuple[str, ...]
    """The domains that any task or node names, ``node`` not among them, in order."""
    domain_value: Ints
    """[domains, N] index of the node's value of the domain, -1 where it has none."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What the tasks of each shape ask for, and where that may go."""

    requests: tuple[Request, ...]
    need: Ints
    """[S, K] of a node, in the order of ``NODE_DIMENSIONS``."""
    gpus: Ints
    """[S]"""
    milli: Ints
    """[S] share of each device; 0 for a shape without a GPU."""
    memory_mib: Ints
    """[S] on each device."""
    weight: Ints
    """[S] what one placed replica counts for (model.md, w)."""
    node_rule: Ints
    """[S] row of ``node_accepts``."""
    node_accepts: Flags
    """[node rules, node kinds]"""
    device_rule: Ints
    """[S] row of ``device_accepts``; device memory is not part of the rule."""
    device_accepts: Flags
    """[device rules, device kinds]"""


@dataclass(frozen=True, slots=True)
class Arrays:
    """A problem's cluster and shapes, with the shape of each task, in the problem's order."""

    problem: Problem
    cluster: Cluster
    shapes: Shapes
    shape: Ints
    """[T]"""


Key = TypeVar("Key", bound=Hashable)
_Wiring = tuple[tuple[int, int, int], ...]
"""(first device, second device, cost of holding both), for the devices of one node."""


class _Numbering(dict[Key, int]):
    """Numbers its keys 0, 1, 2, ... in the order in which they are first asked for."""

    def __missing__(self, key: Key) -> int:
        self[key] = number = len(self)
        return number


def as_arrays(problem: Problem) -> Arrays:
    """The arrays of a problem. Quantities are exact: all of them fit 64 bits."""
    kinds, cluster = _cluster(problem)
    shape, shapes = _shapes(problem, *kinds)
    return Arrays(problem=problem, cluster=cluster, shapes=shapes, shape=shape)


_Kinds = tuple[list[Node], list[Device]]
"""One node of each kind, and one device of each kind."""


def _cluster(problem: Problem) -> tuple[_Kinds, Cluster]:
    nodes = problem.nodes
    selected = sorted({label for task in problem.tasks for label in task.node_selector})
    asked = {d for t in problem.tasks for d in (t.pack_within, t.spread_over) if d is not None}
    domains = tuple(sorted({name for node in nodes for name in node.domains} | asked - {"node"}))
    node_kinds: _Numbering[Any] = _Numbering()
    device_kinds: _Numbering[Any] = _Numbering()
    wirings: _Numbering[_Wiring] = _Numbering()
    kinds: _Kinds = ([], [])
    kind, wiring, start, device_kind, memory_mib = [], [], [0], [], []
    for node in nodes:
        labels = tuple(node.labels.get(label) for label in selected)
        kind.append(node_kinds[node.schedulable, labels, frozenset(node.domains)])
        if len(node_kinds) > len(kinds[0]):
            kinds[0].append(node)
        wiring.append(wirings[_wiring(node)])
        for device in node.devices:
            device_kind.append(device_kinds[device.model, device.healthy])
            if len(device_kinds) > len(kinds[1]):
                kinds[1].append(device)
            memory_mib.append(device.memory_mib)
        start.append(len(device_kind))
    return kinds, Cluster(
        room=_table(
            [[getattr(node, k) for k in NODE_DIMENSIONS] for node in nodes], len(NODE_DIMENSIONS)
        ),
        kind=_ints(kind),
        device_start=_ints(start),
        device_kind=_ints(device_kind),
        device_memory_mib=_ints(memory_mib),
        wiring=_ints(wiring),
        pair_cost=_pair_costs(list(wirings)),
        domains=domains,
        domain_value=_domain_values(nodes, domains),
    )


def _wiring(node: Node) -> _Wiring:
    """The costs of pairs of devices, as (first, second, cost); empty on a node with too many."""
    if len(node.devices) > MOST_PEERS:
        return ()
    if not any(device.links or device.numa is not None for device in node.devices):
        return _unlinked(len(node.devices))
    pairs = combinations(enumerate(node.devices), 2)
    return tuple((i, j, pair_cost(first, second)) for (i, first), (j, second) in pairs)


def _unlinked(devices: int) -> _Wiring:
    far = pair_cost(Device(id="first"), Device(id="second"))
    return tuple((i, j, far) for i, j in combinations(range(devices), 2))


def _pair_costs(wirings: list[_Wiring]) -> Ints:
    costs = np.zeros((max(1, len(wirings)), MOST_PEERS, MOST_PEERS), dtype=np.int64)
    for index, wiring in enumerate(wirings):
        for first, second, cost in wiring:
            costs[index, first, second] = costs[index, second, first] = cost
    return costs


def _domain_values(nodes: tuple[Node, ...], domains: tuple[str, ...]) -> Ints:
    values = np.full((len(domains), len(nodes)), -1, dtype=np.int64)
    for row, domain in enumerate(domains):
        numbers: _Numbering[Any] = _Numbering()
        for column, node in enumerate(nodes):
            value = value_of(node, domain)
            if value is not None:
                values[row, column] = numbers[value]
    return values


def _shapes(
    problem: Problem, node_kinds: list[Node], device_kinds: list[Device]
) -> tuple[Ints, Shapes]:
    shapes: _Numbering[Any] = _Numbering()
    node_rules: _Numbering[Any] = _Numbering()
    device_rules: _Numbering[Any] = _Numbering()
    requests: list[Request] = []
    node_rule, device_rule, node_rows, device_rows, shape = [], [], [], [], []
    for task in problem.tasks:
        selector = tuple(sorted(task.node_selector.items())) if task.node_selector else ()
        place = (selector, task.pack_within, task.spread_over)
        shape.append(shapes[task.request, task.gpu_models, place])
        if len(shapes) == len(requests):
            continue
        requests.append(task.request)
        node_rule.append(node_rules[place])
        if len(node_rules) > len(node_rows):
            node_rows.append([accepts(task, node) for node in node_kinds])
        device_rule.append(device_rules[task.gpu_models])
        if len(device_rules) > len(device_rows):
            device_rows.append([d.healthy and matches_model(task, d) for d in device_kinds])
    return _ints(shape), Shapes(
        requests=tuple(requests),
        need=_table(
            [[getattr(r, k) for k in NODE_DIMENSIONS] for r in requests], len(NODE_DIMENSIONS)
        ),
        gpus=_ints([r.gpus for r in requests]),
        milli=_ints([r.gpu_milli if r.gpus else 0 for r in requests]),
        memory_mib=_ints([r.gpu_memory_mib if r.gpus else 0 for r in requests]),
        weight=_ints([r.weight for r in requests]),
        node_rule=_ints(node_rule),
        node_accepts=_table(node_rows, len(node_kinds)) > 0,
        device_rule=_ints(device_rule),
        device_accepts=_table(device_rows, len(device_kinds)) > 0,
    )


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _table(rows: Sequence[Sequence[int]], columns: int) -> Ints:
    """Rows of equal length as a matrix, also when there are none of either."""
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)
