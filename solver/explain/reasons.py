"""Which rules keep a task waiting, by lifting them (model.md, W1), and on how many nodes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from solver.arrays import Flags, Ints
from solver.explain import fitting
from solver.explain.fitting import (
    CAPACITY,
    GANG,
    MODEL,
    NOTHING,
    SELECTOR,
    TOPOLOGY,
    UNSCHEDULABLE,
    Ask,
)
from solver.explain.room import Room
from solver.objective import NODE_DIMENSIONS
from solver.plan import Reason, ReasonCode

_SETS = 32
"""Sets of the rules that can be lifted; each is a number below this."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps single replicas off the nodes."""

    sets: tuple[int, ...]
    """The smallest sets of rules that would have to be lifted so that one replica fits."""
    rules: Ints
    """[N] the rules that are in the way on each node."""

    def nodes(self, rule: int) -> int:
        """On how many nodes a rule is in the way."""
        return int(np.count_nonzero(self.rules & rule))


def blocked(room: Room, ask: Ask) -> Blocked:
    """Looks at every node once."""
    ground = ask.ground
    rules = np.where(fitting.is_short(room, ask), CAPACITY, 0)
    rules[~ground.schedulable] |= UNSCHEDULABLE
    if ask.task.node_selector:
        rules[~ask.matches_selector] |= SELECTOR
    rules[~ask.has_domains] |= TOPOLOGY
    near = fitting.strangers(room, ask)
    if near is not None:
        rules[near > 0] |= TOPOLOGY
    if not ask.request.gpus:
        return _blocked(rules)
    about_devices = [rule for rule in ask.relevant if rule in {UNSCHEDULABLE, MODEL}]
    if UNSCHEDULABLE in about_devices and not ground.has_unhealthy:
        about_devices.remove(UNSCHEDULABLE)
    if not about_devices:
        rules[~fitting.has_devices(room, ask)] |= CAPACITY
        return _blocked(rules)
    return _blocked_by_devices(room, ask, rules, _subsets(about_devices))


def _blocked(rules: Ints) -> Blocked:
    return Blocked(_smallest(np.flatnonzero(np.bincount(rules, minlength=_SETS)).tolist()), rules)


def _blocked_by_devices(room: Room, ask: Ask, rules: Ints, liftable: list[int]) -> Blocked:
    """The same where a node may offer a choice: other models, or the ones that are unhealthy."""
    does = {lifted: fitting.has_devices(room, ask, lifted) for lifted in liftable}
    for lifted in liftable:
        does[lifted | CAPACITY] = fitting.could_have_devices(ask, lifted)
    for rule in (CAPACITY, UNSCHEDULABLE):  # what is lifted for the node is for its devices too
        for lifted, doing in does.items():
            if not lifted & rule and lifted | rule in does:
                does[lifted] = doing | ((rules & rule > 0) & does[lifted | rule])
    seen: set[int] = set()
    found = rules.copy()
    for lifted, doing in does.items():
        smallest = doing.copy()
        for smaller, other in does.items():
            if smaller != lifted and smaller & lifted == smaller:
                smallest &= ~other
        found[smallest] |= lifted
        seen.update(np.flatnonzero(np.bincount(rules[smallest] | lifted, minlength=1)).tolist())
    return Blocked(_smallest(sorted(seen)), found)


def _smallest(sets: list[int]) -> tuple[int, ...]:
    """Those that contain none of the others."""
    return tuple(s for s in sets if not any(o != s and o & s == o for o in sets))


def _subsets(rules: list[int]) -> list[int]:
    """All sets of these rules, each after those that it contains."""
    found = [NOTHING]
    for rule in rules:
        found += [rule | lifted for lifted in found]
    return sorted(found, key=int.bit_count)


def rules_in_the_way(room: Room, ask: Ask, found: Blocked) -> int:
    """The rules of all smallest sets that would have to be lifted; 0 for a task that fits."""
    if ask.task.fewest == 1:
        return _union(found.sets)
    wanted: list[int] = []
    known: dict[int, bool] = {}
    relevant = ask.relevant

    def holds(lifted: int) -> bool:
        lifted &= sum(relevant)
        if lifted not in known:
            known[lifted] = any(
                s & lifted == s for s, fits in known.items() if fits
            ) or fitting.gang_fits(room, ask, lifted)
        return known[lifted]

    for lifted in _subsets(relevant):
        if not any(smaller & lifted == smaller for smaller in wanted) and holds(lifted):
            wanted.append(lifted)
    return _union(tuple(wanted)) | _too_many(found, holds)


def _too_many(found: Blocked, holds: Callable[[int], bool]) -> int:
    """What is in the way of a single replica, and GANG, where that alone isn't in the way."""
    return _union(tuple(s | GANG for s in found.sets if not holds(s | TOPOLOGY)))


def _union(sets: tuple[int, ...]) -> int:
    union = 0
    for lifted in sets:
        union |= lifted
    return union


def describe(room: Room, ask: Ask, found: Blocked, rules: int) -> Iterator[Reason]:
    """The rules in words, the ones about the task itself before those about what else runs."""
    task, total = ask.task, len(ask.ground.nodes)

    def on_nodes(rule: int) -> tuple[int, str]:
        count = found.nodes(rule)
        return count, f"{count} of {total} nodes"

    if rules & UNSCHEDULABLE:
        count, nodes = on_nodes(UNSCHEDULABLE)
        text = f"{nodes} are cordoned or have too few healthy devices"
        yield Reason(code=ReasonCode.UNSCHEDULABLE_NODES, text=text, nodes=count)
    if rules & SELECTOR:
        wanted = "; ".join(f"{k} in {', '.join(v)}" for k, v in sorted(task.node_selector.items()))
        count, nodes = on_nodes(SELECTOR)
        text = f"{nodes} don't match the selector {wanted}"
        yield Reason(code=ReasonCode.NO_MATCHING_NODE, text=text, nodes=count)
    if rules & MODEL:
        count, nodes = on_nodes(MODEL)
        text = f"{nodes} have fewer than {ask.request.gpus} of {' or '.join(task.gpu_models)}"
        yield Reason(code=ReasonCode.NO_MATCHING_MODEL, text=text, nodes=count)
    if rules & CAPACITY:
        yield _no_capacity(room, ask, found)
    if rules & TOPOLOGY:
        yield from _topology(room, ask)
    if rules & GANG:
        fitting_now = min(int(fitting.rooms(room, ask, TOPOLOGY).sum()), task.replicas)
        text = f"needs {task.fewest} replicas at once, and {fitting_now} fit"
        yield Reason(code=ReasonCode.GANG_DOES_NOT_FIT, text=text, nodes=total)


def limit_reasons(room: Room, ask: Ask) -> Iterator[Reason]:
    """The limits that placing the fewest replicas would exceed."""
    for limit, need, use in room.short_limits(ask.task, ask.task.fewest):
        text = (
            f"needs {need} {limit.dimension} in queue {limit.queue}, "
            f"which holds {use} of its limit {limit.limit}"
        )
        yield Reason(code=ReasonCode.QUEUE_LIMIT, text=text)


def _topology(room: Room, ask: Ask) -> Iterator[Reason]:
    """Where the task may not be: without a domain, beside another, or not all in one place."""
    task, total = ask.task, len(ask.ground.nodes)
    homeless = int(np.count_nonzero(~ask.has_domains))
    if homeless:
        domains = " and ".join(d for d in (task.pack_within, task.spread_over) if d is not None)
        text = f"{homeless} of {total} nodes have no value of {domains}"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=homeless)
    near = fitting.strangers(room, ask)
    apart = 0 if near is None else int(np.count_nonzero(near))
    if apart:
        running = room.running
        names = sorted(running.tasks[o].id for o in ask.others if running.replicas[o])
        text = f"{apart} of {total} nodes run a task that it is separate from ({', '.join(names)})"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=apart)
    layout = fitting.layout_of(ask)
    if layout is not None and task.fewest > 1 and not fitting.gang_fits(room, ask):
        within = [f"within one {task.pack_within}"] if task.pack_within else []
        over = [f"evenly over {task.spread_over}"] if task.spread_over else []
        room_anyhow = fitting.gang_fits(room, ask, TOPOLOGY)
        count = f"{task.fewest} replicas fit, but not" if room_anyhow else "no room for all"
        text = f"{count} {' and '.join(within + over)}"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=total)


def _no_capacity(room: Room, ask: Ask, found: Blocked) -> Reason:
    """How many nodes lack room, and of what."""
    full = found.rules & CAPACITY > 0
    if ask.task.fewest > 1:  # one that holds some, and would hold more if it were empty, is short
        full = full | (
            fitting.replicas_now(room, ask, TOPOLOGY)
            < np.where(
                fitting.allowed(room, ask, TOPOLOGY), fitting.replicas_when_empty(ask, TOPOLOGY), 0
            )
        )
    count = int(np.count_nonzero(full))
    what = "; ".join(_shortages(room, ask, full))
    each = "each replica" if ask.task.replicas > 1 else "the task"
    text = f"{count} of {len(full)} nodes lack room for what {each} needs"
    return Reason(
        code=ReasonCode.NO_CAPACITY, text=f"{text}: {what}" if what else text, nodes=count
    )


def _shortages(room: Room, ask: Ask, full: Flags) -> Iterator[str]:
    """Each dimension that is short on any of these nodes, on how many, and the most there is."""
    request = ask.request
    if request.gpus:
        free, wanted = (
            (fitting.most_milli(room, ask), request.gpu_milli)
            if request.is_share
            else (fitting.whole_devices(room, ask), request.gpus)
        )
        short = full & (free < wanted)
        if short.any():
            most = max(0, int(free[short].max()))
            what = "gpu_milli of one device" if request.is_share else "whole devices"
            if request.gpu_memory_mib:
                what += f" with {request.gpu_memory_mib} MiB"
            yield f"{wanted} {what} ({_nodes(short)}, the best has {most} free)"
    for k, need in ask.needs:
        short = full & (room.free[k] < need)
        if short.any():
            most = max(0, int(room.free[k][short].max()))
            name = NODE_DIMENSIONS[k]
            yield f"{need} {name} ({_nodes(short)}, the best has {most} free)"


def _nodes(which: Flags) -> str:
    count = int(np.count_nonzero(which))
    return f"{count} node{'s' * (count != 1)}"
