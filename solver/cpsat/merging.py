"""Equal nodes as one: a smaller model without their symmetry, whose bounds hold for the problem.

Every plan of the problem is one of the merged problem too, when the nodes' capacities are added up
and what is said of single nodes is dropped or counted once: ``spread_over`` and ``separate_from``
(constraints.py). So the merged model bounds from the right side what the problem can reach.
"""

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

from solver.links import pair_cost
from solver.problem import Node, Problem


def merge_nodes(problem: Problem) -> tuple[Problem, tuple[tuple[int, ...], ...]] | None:
    """The problem with one of each kind of node, and the indices of the nodes that each stands for.

    A node on which something runs stays alone. None when no two nodes are equal.
    """
    used = {slot.node for task in problem.tasks for slot in task.placed}
    labels = sorted({label for task in problem.tasks for label in task.node_selector})
    domains = _domains_that_count(problem)
    alike: dict[object, list[int]] = defaultdict(list)
    for i, node in enumerate(problem.nodes):
        key = node.id if node.id in used else _make(node, labels, domains)
        alike[key].append(i)
    if len(alike) == len(problem.nodes):
        return None
    nodes = tuple(problem.nodes[members[0]] for members in alike.values())
    return replace(problem, nodes=nodes), tuple(map(tuple, alike.values()))


def _domains_that_count(problem: Problem) -> list[str]:
    """The domains whose values make a difference: all of them once there are gangs."""
    if any(task.replicas > 1 for task in problem.tasks):
        return sorted({domain for node in problem.nodes for domain in node.domains})
    named = {d for t in problem.tasks for d in (t.pack_within, t.spread_over) if d is not None}
    return sorted(named)


def _make(node: Node, labels: list[str], domains: list[str]) -> object:
    """Equal for two empty nodes that no task tells apart."""
    return (
        node.cpu_milli,
        node.memory_mib,
        node.disk_mib,
        node.network_mbps,
        node.schedulable,
        tuple(node.labels.get(label) for label in labels),
        tuple(node.domains.get(domain) for domain in domains),
        node.idle_watts,
        tuple((d.model, d.memory_mib, d.healthy, d.active_watts) for d in node.devices),
        tuple(pair_cost(*pair) for pair in combinations(node.devices, 2)),
    )
