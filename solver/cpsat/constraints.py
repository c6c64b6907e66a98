"""The rules of docs/model.md as linear constraints, one family a function.

"May start there" (C2) needs none: a pattern that isn't allowed has no variable.
"""

from collections import defaultdict
from collections.abc import Callable

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar, LinearExpr, LiteralT

from solver.cpsat.fillings import share_of
from solver.cpsat.layout import POOL, DeviceClass, Group
from solver.cpsat.variables import Variables
from solver.deadline import Deadline
from solver.eligibility import (
    Value,
    queue_chains,
    queue_need,
    spread_rooms,
    value_of,
)
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI, Queue, Request


def add_rules(variables: Variables, deadline: Deadline) -> None:
    """Every rule, one family after the other."""
    for family in (
        limit_devices,
        limit_shares,
        fill_devices,
        limit_nodes,
        keep_gangs_whole,
        leave_broken_gangs,
        pack_gangs,
        spread_gangs,
        separate_tasks,
        limit_queues,
        keep_unpreemptible,
        limit_moves,
    ):
        deadline.enforce()
        family(variables)


def whole_on(variables: Variables, kind: DeviceClass) -> LinearExpr:
    """How many devices of the class are held whole."""
    parts: list[IntVar] = []
    factors: list[int] = []
    for group, pattern, number in variables.starts_in(kind):
        if pattern.bin is None:
            parts.append(variables.new[group.index, pattern])
            factors.append(number)
    for task, i in kind.occupants:
        if not variables.layout.group_of[task].task.request.is_share:
            parts.append(variables.stays[task][i])
            factors.append(kind.size)
    return LinearExpr.weighted_sum(parts, factors)


def shared_on(variables: Variables, kind: DeviceClass) -> LinearExpr:
    """How many devices of the class are shared."""
    bins = range(variables.layout.bins[kind.node, kind.index])
    filled = variables.filled.get((kind.node, kind.index), ())
    return LinearExpr.sum([*(variables.open[kind.node, kind.index, b] for b in bins), *filled])


def load_of(variables: Variables, kind: DeviceClass, b: int, quantity: str) -> LinearExpr:
    """What the shares in a bin of the class need of each device: ``gpu_milli`` or
    ``gpu_memory_mib``.
    """
    return sum_in_bin(variables, kind, b, lambda request: getattr(request, quantity))


def sum_in_bin(
    variables: Variables, kind: DeviceClass, b: int, size: Callable[[Request], int]
) -> LinearExpr:
    """The sum of ``size`` over the shares in a bin of the class."""
    parts: list[IntVar] = []
    factors: list[int] = []
    for group, pattern, _ in variables.starts_in(kind):
        if pattern.bin == b:
            parts.append(variables.new[group.index, pattern])
            factors.append(size(group.task.request))
    for task, i in kind.occupants if b in {0, POOL} else ():
        request = variables.layout.group_of[task].task.request
        if request.is_share:
            parts.append(variables.stays[task][i])
            factors.append(size(request))
    return LinearExpr.weighted_sum(parts, factors)


def limit_devices(variables: Variables) -> None:
    """(C3) Devices of a class held whole or shared are at most as many as there are."""
    for of_node in variables.layout.classes:
        for kind in of_node:
            if kind.is_broken:
                _limit_broken_device(variables, kind)
            else:
                held = whole_on(variables, kind) + shared_on(variables, kind)
                variables.model.add(held <= kind.size)


def capacities_of(kind: DeviceClass) -> tuple[tuple[str, int], ...]:
    """What each device of the class holds, quantity by quantity."""
    return (
        ("gpu_milli", WHOLE_DEVICE_MILLI),
        ("gpu_memory_mib", kind.devices[0].memory_mib),
    )


def broken_use(variables: Variables, kind: DeviceClass, quantity: str) -> tuple[LinearExpr, int]:
    """What is used of a device that is alone in its class, and what of it was at the start."""
    needs = {
        task: getattr(variables.layout.group_of[task].task.request, quantity)
        for task, _ in kind.occupants
    }
    held = [needs[task] * variables.stays[task][i] for task, i in kind.occupants]
    new = [need * start for start, need in _new_on(variables, kind, quantity)]
    return LinearExpr.sum([*held, *new]), sum(needs[task] for task, _ in kind.occupants)


def _new_on(variables: Variables, kind: DeviceClass, quantity: str) -> list[tuple[IntVar, int]]:
    return [
        (variables.new[group.index, pattern], need)
        for group in variables.groups_on(kind.node)
        for pattern in group.patterns
        if pattern.node == kind.node
        and any(index == kind.index for index, _ in pattern.take)
        and (need := getattr(group.task.request, quantity))
    ]


def _limit_broken_device(variables: Variables, kind: DeviceClass) -> None:
    """(E) A device that is over-full at the start takes something new only when it no longer is."""
    model = variables.model
    for quantity, capacity in capacities_of(kind):
        total, start = broken_use(variables, kind, quantity)
        if start <= capacity:
            model.add(total <= capacity)
            continue
        within = model.new_bool_var("")
        model.add(total <= capacity).only_enforce_if(within)
        for new, _ in _new_on(variables, kind, quantity):
            model.add(new == 0).only_enforce_if(~within)


def limit_shares(variables: Variables) -> None:
    """(C3, C4) The shares in a bin fit on one device, and an unopened bin holds none."""
    layout = variables.layout
    for (node, index, b), is_open in variables.open.items():
        kind = layout.classes[node][index]
        if kind.is_broken:
            _open_broken_bin(variables, kind, is_open)
            continue
        load = load_of(variables, kind, b, "gpu_milli")
        variables.model.add(load <= WHOLE_DEVICE_MILLI * is_open)
        memory_mib = kind.devices[0].memory_mib
        needs = [
            (group.task.request.gpu_memory_mib, group.task.request.gpu_milli)
            for group in variables.groups_on(node)
            if group.task.request.is_share
        ]
        # Memory that runs out no sooner than the milli do needs no constraint of its own.
        if any(need * WHOLE_DEVICE_MILLI > memory_mib * milli for need, milli in needs):
            used = load_of(variables, kind, b, "gpu_memory_mib")
            variables.model.add(used <= memory_mib * is_open)


def fill_devices(variables: Variables) -> None:
    """(C3, C4) The shares of each size are at most as many as the chosen fillings have room for."""
    for (node, index), ways in variables.layout.fillings.items():
        kind = variables.layout.classes[node][index]
        for share in sorted({share for filling in ways for share, _ in filling}):
            held = sum_in_bin(variables, kind, POOL, lambda r, s=share: int(share_of(r) == s))
            counts = [dict(filling).get(share, 0) for filling in ways]
            room = LinearExpr.weighted_sum(list(variables.filled[node, index]), counts)
            variables.model.add(held <= room)


def _open_broken_bin(variables: Variables, kind: DeviceClass, is_open: IntVar) -> None:
    users = [
        variables.stays[task][i]
        for task, i in kind.occupants
        if variables.layout.group_of[task].task.request.is_share
    ]
    users += [
        variables.new[group.index, pattern]
        for group, pattern, _ in variables.starts_in(kind)
        if pattern.bin == 0
    ]
    for user in users:
        variables.model.add(user == 0).only_enforce_if(~is_open)


def limit_nodes(variables: Variables) -> None:
    """(C5) A node holds at most its cpu, memory, disk and network."""
    layout = variables.layout
    for i, node in enumerate(layout.problem.nodes):
        for dimension in NODE_DIMENSIONS:
            users = [
                (group, need)
                for group in variables.groups_on(i)
                if (need := getattr(group.task.request, dimension))
            ]
            capacity = layout.copies[i] * getattr(node, dimension)
            if sum(need * group.most for group, need in users) <= capacity:
                continue
            use = LinearExpr.sum([need * variables.on[group.index, i] for group, need in users])
            at_start = sum(need * layout.placed_on(group, i) for group, need in users)
            if at_start <= capacity:
                variables.model.add(use <= capacity)
                continue
            within = variables.model.new_bool_var("")  # (E)
            variables.model.add(use <= capacity).only_enforce_if(within)
            for group, _ in users:
                before = layout.placed_on(group, i)
                here = variables.on[group.index, i]
                variables.model.add(here <= before).only_enforce_if(~within)


def keep_gangs_whole(variables: Variables) -> None:
    """(C6) At least ``min_replicas`` of a gang run, or none, and never more than its replicas."""
    model = variables.model
    for group in variables.layout.groups:
        task, count = group.task, variables.count[group.index]
        if not group.is_gang:
            model.add(count <= group.most)
            continue
        runs = variables.runs[group.index]
        model.add(count <= task.replicas * runs)
        for i in variables.nodes_of(group):  # implied, and tighter for the linear relaxation
            model.add(variables.on[group.index, i] <= variables.most_on(group, i) * runs)
        if _is_broken_gang(variables, group):
            as_is = variables.model.new_bool_var("")
            variables.as_is[group.index] = as_is
            fewest = min(task.fewest, len(task.placed))
            model.add(count >= fewest * runs)
            model.add(count >= task.fewest * runs).only_enforce_if(~as_is)
        else:
            model.add(count >= task.fewest * runs)


def leave_broken_gangs(variables: Variables) -> None:
    """(E) A gang that breaks a rule of gangs at the start may stay if nothing of it changes."""
    for group in variables.layout.groups:
        as_is = variables.as_is.get(group.index)
        if as_is is None:
            continue
        for stay in variables.stays[group.task.id]:
            variables.model.add_implication(as_is, stay)
        for pattern in group.patterns:
            start = variables.new[group.index, pattern]
            variables.model.add(start == 0).only_enforce_if(as_is)


def _is_broken_gang(variables: Variables, group: Group) -> bool:
    """True when what runs of the gang breaks (C6), (C7) or, possibly, (C8) at the start."""
    task = group.task
    if not task.placed:
        return False
    if len(task.placed) < task.fewest or task.spread_over is not None:
        return True
    if task.pack_within is None:
        return False
    nodes = {node.id: node for node in variables.layout.problem.nodes}
    values = {value_of(nodes[slot.node], task.pack_within) for slot in task.placed}
    return len(values) > 1 or None in values


def _nodes_by_value(
    variables: Variables, group: Group, domain: str
) -> dict[Value | None, list[int]]:
    values: dict[Value | None, list[int]] = defaultdict(list)
    for i in variables.nodes_of(group):
        values[value_of(variables.layout.problem.nodes[i], domain)].append(i)
    return values


def pack_gangs(variables: Variables) -> None:
    """(C7) All replicas of a gang with ``pack_within`` are in one value of that domain."""
    model = variables.model
    for group in variables.layout.groups:
        domain = group.task.pack_within
        if domain is None or not group.is_gang:
            continue
        chosen: list[IntVar] = []
        for value, nodes in _nodes_by_value(variables, group, domain).items():
            inside = LinearExpr.sum([variables.on[group.index, i] for i in nodes])
            if value is None:
                _unless_as_is(variables, group, model.add(inside == 0))
                continue
            is_chosen = model.new_bool_var("")
            chosen.append(is_chosen)
            model.add(inside <= group.most * is_chosen)
            _unless_as_is(variables, group, model.add(inside >= group.task.fewest * is_chosen))
            for i in nodes:  # implied, and tighter for the linear relaxation
                here = variables.on[group.index, i]
                model.add(here <= variables.most_on(group, i) * is_chosen)
            if len(nodes) == 1:
                variables.present.setdefault((group.index, nodes[0]), is_chosen)
        one = LinearExpr.sum(chosen) == variables.runs[group.index]
        _unless_as_is(variables, group, model.add(one))


def _unless_as_is(variables: Variables, group: Group, rule: cp_model.Constraint) -> None:
    if group.index in variables.as_is:
        rule.only_enforce_if(~variables.as_is[group.index])


def spread_gangs(variables: Variables) -> None:
    """(C8) No value of ``spread_over`` that could hold another replica is two or more behind.

    Not asked of merged nodes, whose values are no longer told apart.
    """
    for group in () if variables.layout.is_merged else variables.layout.groups:
        task = group.task
        if task.spread_over is None or not group.is_gang:
            continue
        nodes = variables.layout.problem.nodes
        if task.pack_within is None:
            _spread_within(variables, group, list(range(len(nodes))), None)
            continue
        for value, inside in _nodes_by_value(variables, group, task.pack_within).items():
            if value is None:
                continue
            all_inside = [i for i, n in enumerate(nodes) if value_of(n, task.pack_within) == value]
            here = variables.model.new_bool_var("")
            total = LinearExpr.sum([variables.on[group.index, i] for i in inside])
            variables.model.add(total <= group.most * here)
            _spread_within(variables, group, all_inside, here)


def _spread_within(
    variables: Variables, group: Group, nodes: list[int], here: IntVar | None
) -> None:
    model, task = variables.model, group.task
    counts: dict[Value | None, LinearExpr] = {
        value: LinearExpr.sum([variables.on[group.index, i] for i in some if i in set(nodes)])
        for value, some in _nodes_by_value(variables, group, task.spread_over or "").items()
    }
    fullest = model.new_int_var(0, task.replicas, "")
    for count in counts.values():
        model.add(count <= fullest)
    rooms = spread_rooms(task, tuple(variables.layout.problem.nodes[i] for i in nodes))
    for value, room in sorted(rooms.items()):
        if room == 0:
            continue
        count = counts.get(value, LinearExpr.sum([]))
        conditions: list[LiteralT] = [] if here is None else [here]
        if group.index in variables.as_is:
            conditions.append(~variables.as_is[group.index])
        if room < task.replicas - 1:
            is_full = model.new_bool_var("")
            model.add(count >= room).only_enforce_if(is_full, *conditions)
            conditions.append(~is_full)
        rule = model.add(count >= fullest - 1)
        if conditions:
            rule.only_enforce_if(*conditions)


def separate_tasks(variables: Variables) -> None:
    """(C9) Tasks of which one is ``separate_from`` the other share no node."""
    layout, model = variables.layout, variables.model
    for task, others in layout.apart.items():
        for other in others:
            if other < task:
                continue
            first, second = layout.group_of[task], layout.group_of[other]
            for i in variables.nodes_of(first):
                if (second.index, i) not in variables.on or layout.copies[i] > 1:
                    continue
                here = [variables.presence(group, i) for group in (first, second)]
                before = [layout.placed_on(group, i) for group in (first, second)]
                if not all(before):
                    model.add_bool_or(~here[0], ~here[1])
                    continue
                together = model.new_bool_var("")  # (E): they may go on sharing it
                model.add_bool_or(~here[0], ~here[1], together)
                for group, count in zip((first, second), before, strict=True):
                    model.add(variables.on[group.index, i] <= count).only_enforce_if(together)


def queue_use(variables: Variables, queue: Queue, dimension: str) -> LinearExpr:
    """What the tasks of a queue and of those below it hold of a dimension."""
    chains = queue_chains(variables.layout.problem)
    return LinearExpr.sum(
        [
            need * variables.count[group.index]
            for group in variables.layout.groups
            if queue in chains[group.task.queue]
            and (need := queue_need(group.task.request, dimension))
        ]
    )


def limit_queues(variables: Variables) -> None:
    """(C10) A queue, with those below it, holds at most its ``limit``."""
    model, layout = variables.model, variables.layout
    chains = queue_chains(layout.problem)
    for queue in layout.problem.queues:
        members = [group for group in layout.groups if queue in chains[group.task.queue]]
        for dimension, limit in queue.limit.items():
            needs = {g.index: queue_need(g.task.request, dimension) for g in members}
            if sum(needs[group.index] * group.most for group in members) <= limit:
                continue
            use = queue_use(variables, queue, dimension)
            at_start = sum(needs[g.index] * len(g.task.placed) for g in members)
            if at_start <= limit:
                model.add(use <= limit)
                continue
            within = model.new_bool_var("")  # (E)
            model.add(use <= limit).only_enforce_if(within)
            for group in members:
                if needs[group.index]:
                    count = variables.count[group.index]
                    model.add(count <= len(group.task.placed)).only_enforce_if(~within)


def keep_unpreemptible(variables: Variables) -> None:
    """(C11) A task that isn't preemptible stays; with ``max_moves`` 0 (C13) every running task
    does.
    """
    frozen = variables.layout.problem.budget.max_moves == 0
    for task, stays in variables.stays.items():
        if frozen or not variables.layout.group_of[task].task.preemptible:
            for stay in stays:
                variables.model.add(stay == 1)


def limit_moves(variables: Variables) -> None:
    """(C13) At most ``max_moves`` tasks are moved or evicted."""
    most = variables.layout.problem.budget.max_moves
    if most is None or len(variables.stays) <= most or most == 0:
        return
    touched = [variables.touched[task] for task in variables.stays]
    variables.model.add(LinearExpr.sum(touched) <= most)
