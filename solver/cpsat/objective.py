"""The objective terms of docs/model.md, (O0) to (O7), as linear expressions over the decisions."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import assert_never

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar, LinearExpr, LinearExprT

from solver.cpsat.constraints import (
    broken_use,
    capacities_of,
    load_of,
    shared_on,
    whole_on,
)
from solver.cpsat.layout import POOL, DeviceClass, Group
from solver.cpsat.variables import Variables
from solver.eligibility import own_value_of
from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS, NODE_DOMAIN, TermName
from solver.problem import WHOLE_DEVICE_MILLI, Node, Slot
from solver.score import terms_of


@dataclass(frozen=True)
class Term:
    """One entry of the objective: a name, a level for ``placed``, and what is to be optimised."""

    name: TermName
    level: int | None
    expression: LinearExprT


def make_terms(variables: Variables) -> tuple[Term, ...]:
    """The problem's terms in their order; ``placed`` gives one a priority level, highest first."""
    terms: list[Term] = []
    for name in terms_of(variables.layout.problem):
        if name is TermName.PLACED:
            terms += _placed(variables)
        else:
            terms.append(Term(name, None, _cost(name, variables)))
    return tuple(terms)


def _cost(name: TermName, variables: Variables) -> LinearExprT:
    match name:
        case TermName.REPAIR:
            return repair(variables)
        case TermName.DISRUPTION:
            return disruption(variables)
        case TermName.FRAGMENTATION:
            return fragmentation(variables)
        case TermName.LOCALITY:
            return locality(variables)
        case TermName.BALANCE:
            return balance(variables)
        case TermName.PACK:
            return LinearExpr.sum(list(_nodes_in_use(variables).values()))
        case TermName.POWER:
            return power(variables)
        case TermName.PLACED:
            raise AssertionError("placed is no cost")
        case _:
            assert_never(name)


def repair(variables: Variables) -> LinearExprT:
    """(O0) What stays broken: capacities, short gangs, separate tasks on a node."""
    broken: list[LinearExprT] = [
        variables.as_is[group.index]
        for group in variables.layout.groups
        if 0 < len(group.task.placed) < group.task.fewest
    ]
    for of_node in variables.layout.classes:
        for kind in of_node:
            broken += _broken_devices(variables, kind)
    for i, node in enumerate(variables.layout.problem.nodes):
        for dimension in NODE_DIMENSIONS:
            groups = variables.groups_on(i)
            needs = [getattr(group.task.request, dimension) for group in groups]
            start = sum(
                need * variables.layout.placed_on(group, i)
                for group, need in zip(groups, needs, strict=True)
            )
            here = [variables.on[group.index, i] for group in groups]
            use = LinearExpr.sum([n * on for n, on in zip(needs, here, strict=True) if n])
            broken += _is_over(variables, use, getattr(node, dimension), start)
    return LinearExpr.sum([*broken, *_together(variables)])


def _is_over(
    variables: Variables, use: LinearExprT, capacity: int, start: int
) -> list[LinearExprT]:
    """A literal for a capacity that is exceeded at the start, true unless it is kept in the end."""
    if start <= capacity:
        return []
    is_over = variables.model.new_bool_var("")
    variables.model.add(use <= capacity + (start - capacity) * is_over)  # (E): never more
    return [is_over]


def _broken_devices(variables: Variables, kind: DeviceClass) -> list[LinearExprT]:
    broken: list[LinearExprT] = []
    if kind.is_broken:
        for quantity, capacity in capacities_of(kind):
            use, start = broken_use(variables, kind, quantity)
            broken += _is_over(variables, use, capacity, start)
    return broken


def _together(variables: Variables) -> list[LinearExprT]:
    """For each pair of separate tasks and node that both are on at the start: whether both stay."""
    layout = variables.layout
    found: list[LinearExprT] = []
    for task, others in layout.apart.items():
        first = layout.group_of[task]
        for other in others:
            second = layout.group_of[other]
            for i in variables.nodes_of(first) if task < other else ():
                if layout.placed_on(first, i) and layout.placed_on(second, i):
                    both = variables.model.new_bool_var("")
                    here = [variables.presence(group, i) for group in (first, second)]
                    variables.model.add_bool_or(~here[0], ~here[1], both)
                    found.append(both)
    return found


def _placed(variables: Variables) -> list[Term]:
    """(O1) Per priority level the weights of its placed replicas."""
    parts: dict[int, list[LinearExprT]] = defaultdict(list)
    for group in variables.layout.groups:
        task = group.task
        parts[task.priority].append(task.request.weight * variables.count[group.index])
    return [
        Term(TermName.PLACED, level, LinearExpr.sum(parts[level]))
        for level in sorted(parts, reverse=True)
    ]


def disruption(variables: Variables) -> LinearExprT:
    """(O2) ``move_cost`` of each task that is touched and runs, ``evict_cost`` of each that is
    gone.
    """
    costs: list[LinearExprT] = []
    for task_id in variables.stays:
        group = variables.layout.group_of[task_id]
        task, touched = group.task, variables.touched[task_id]
        gone = variables.model.new_bool_var("")
        count = variables.count[group.index]
        variables.model.add(count >= 1 - gone)
        variables.model.add(count <= task.replicas * (1 - gone))
        costs += [task.move_cost * touched, (task.evict_cost - task.move_cost) * gone]
        variables.model.add(gone <= touched)
    return LinearExpr.sum(costs)


def fragmentation(variables: Variables) -> LinearExprT:
    """(O3) GPU milli left free on devices in use: only shared ones have any left."""
    parts: list[LinearExprT] = []
    for (node, index, b), is_open in variables.open.items():
        kind = variables.layout.classes[node][index]
        left = WHOLE_DEVICE_MILLI * is_open - load_of(variables, kind, b, "gpu_milli")
        if kind.is_broken:  # over-full, or held whole beside the shares: nothing is left
            left_free = variables.model.new_int_var(0, WHOLE_DEVICE_MILLI, "")
            variables.model.add(left_free >= left - WHOLE_DEVICE_MILLI * whole_on(variables, kind))
            left = left_free
        parts.append(left)
    for (node, index), filled in variables.filled.items():
        kind = variables.layout.classes[node][index]
        held = load_of(variables, kind, POOL, "gpu_milli")
        parts.append(WHOLE_DEVICE_MILLI * LinearExpr.sum(list(filled)) - held)
    return LinearExpr.sum(parts)


def locality(variables: Variables) -> LinearExprT:
    """(O4) Values of each domain that a gang uses, less one, and the distance of each replica's
    devices.
    """
    parts: list[LinearExprT] = []
    nodes = variables.layout.problem.nodes
    domains = sorted({name for node in nodes for name in node.domains})
    for group in variables.layout.groups:
        parts += [
            pattern.cost * variables.new[group.index, pattern]
            for pattern in group.patterns
            if pattern.cost
        ]
        for stay, slot in zip(
            variables.stays.get(group.task.id, ()), group.task.placed, strict=True
        ):
            node = nodes[variables.layout.node_index[slot.node]]
            parts.append(_slot_cost(node, slot) * stay)
        if group.is_gang:
            parts += [_spread(variables, group, domain) for domain in (NODE_DOMAIN, *domains)]
    return LinearExpr.sum(parts)


def _spread(variables: Variables, group: Group, domain: str) -> LinearExprT:
    """How many values of the domain the gang uses beyond the first."""
    values: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in variables.nodes_of(group):
        values[own_value_of(variables.layout.problem.nodes[i], domain)].append(i)
    used: list[IntVar] = []
    for inside in values.values():
        if domain == NODE_DOMAIN and variables.layout.copies[inside[0]] > 1:
            used.append(_nodes_for(variables, group, inside[0]))
            continue
        if len(inside) == 1:
            used.append(variables.presence(group, inside[0]))
            continue
        is_used = variables.model.new_bool_var("")
        for i in inside:
            variables.model.add_implication(variables.presence(group, i), is_used)
        used.append(is_used)
    total = LinearExpr.sum(used)
    variables.model.add(total >= variables.runs[group.index])
    return total - variables.runs[group.index]


def _nodes_for(variables: Variables, group: Group, node: int) -> IntVar:
    """At least how many of the equal nodes that the node stands for the gang needs."""
    copies = variables.layout.copies[node]
    number = variables.model.new_int_var(0, copies, "")
    here = variables.on[group.index, node]
    variables.model.add(here <= variables.most_on_one(group, node) * number)
    return number


def _slot_cost(node: Node, slot: Slot) -> int:
    held = [device for device in node.devices if device.id in slot.devices]
    return sum(pair_cost(first, second) for first, second in combinations(held, 2))


def in_use(variables: Variables, kind: DeviceClass) -> LinearExprT:
    """How many devices of the class anything runs on."""
    held = whole_on(variables, kind) + shared_on(variables, kind)
    if not kind.is_broken:
        return held
    used = variables.model.new_bool_var("")  # an over-full device may be held whole and shared
    variables.model.add(held <= (len(kind.occupants) + 1) * used)
    return used


def balance(variables: Variables) -> LinearExprT:
    """(O5) The load of the fullest node, in percent of its devices or its CPU."""
    model = variables.model
    nodes = variables.layout.problem.nodes
    loads = {0}
    for node in nodes:
        size = len(node.devices)
        loads |= {-(-100 * used // size) for used in range(size + 1)} if size else set()
    steps = range(0, _most_cpu_percent(variables) + 1, 10)
    domain = cp_model.Domain.from_values(sorted(loads | set(steps)))
    fullest = model.new_int_var_from_domain(domain, "")
    for i, node in enumerate(nodes):
        size = len(node.devices) * variables.layout.copies[i]
        if size:
            used = LinearExpr.sum([in_use(variables, kind) for kind in variables.layout.classes[i]])
            model.add(100 * used <= size * fullest)
        elif node.cpu_milli:
            _bound_cpu_load(variables, i, fullest)
    return fullest


def _cpu_capacity(variables: Variables, node: int) -> int:
    """The node's CPU, cut where more makes no difference: ten times all that could run there."""
    most = sum(group.task.request.cpu_milli * group.most for group in variables.groups_on(node))
    capacity = variables.layout.copies[node] * variables.layout.problem.nodes[node].cpu_milli
    return max(1, min(capacity, 10 * most))


def _most_cpu_percent(variables: Variables) -> int:
    """The highest CPU load, in steps of ten percent, of a node without devices: over 100 if
    over-full.
    """
    most = 0
    for i, node in enumerate(variables.layout.problem.nodes):
        if node.devices or not node.cpu_milli:
            continue
        at_start = sum(
            group.task.request.cpu_milli * variables.layout.placed_on(group, i)
            for group in variables.groups_on(i)
        )
        capacity = _cpu_capacity(variables, i)
        most = max(most, 100, 10 * -(-10 * at_start // capacity))
    return most


def _bound_cpu_load(variables: Variables, node: int, fullest: IntVar) -> None:
    most = _most_cpu_percent(variables)
    tenths = variables.model.new_int_var(0, most // 10, "")
    use = LinearExpr.sum(
        [
            group.task.request.cpu_milli * variables.on[group.index, node]
            for group in variables.groups_on(node)
        ]
    )
    variables.model.add(10 * use <= _cpu_capacity(variables, node) * tenths)
    variables.model.add(fullest >= 10 * tenths)


def power(variables: Variables) -> LinearExprT:
    """(O7) Watts of nodes and devices in use."""
    nodes = variables.layout.problem.nodes
    parts: list[LinearExprT] = [
        nodes[i].idle_watts * used
        for i, used in _nodes_in_use(variables).items()
        if nodes[i].idle_watts
    ]
    parts += [
        kind.devices[0].active_watts * in_use(variables, kind)
        for of_node in variables.layout.classes
        for kind in of_node
        if kind.devices[0].active_watts
    ]
    return LinearExpr.sum(parts)


def _nodes_in_use(variables: Variables) -> dict[int, IntVar]:
    """(O6) Node -> a literal that is true where anything runs; for merged nodes how many it takes
    at least.
    """
    found: dict[int, IntVar] = {}
    layout, model = variables.layout, variables.model
    for i, node in enumerate(layout.problem.nodes):
        groups = variables.groups_on(i)
        if not groups:
            continue
        copies = layout.copies[i]
        used = model.new_int_var(0, copies, "")
        for group in groups:
            model.add(variables.on[group.index, i] <= variables.most_on_one(group, i) * used)
        if not any(kind.is_broken for kind in layout.classes[i]):
            held = [in_use(variables, kind) for kind in layout.classes[i]]
            model.add(LinearExpr.sum(held) <= len(node.devices) * used)
        found[i] = used
    return found
