"""What makes a project invalid, said once for a ``Project`` and for bare JSON.

Deadlines that can't be met are faults where that needs no search: when the chain of tasks up to one
is too long (docs/model.md, S6), or when those that have to run within a window of time ask for more
of a resource than there is in it (S7).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from solver.errors import Fault, shorten
from solver.reading import duplicates, fault_at, ids, integer, items, mapping, numbered, read, text
from solver.scheduling.projects.network import Network, whole

LATEST = 2**53
"""Times and values stay below, so that JSON readers keep them exactly, and so do the exact search's
bounds, which are floats."""
SHOWN_MEMBERS = 8


def semantic_faults(document: object) -> tuple[Fault, ...]:
    """Every contradiction within the document."""
    tasks = items(document, "tasks")
    resources = mapping(document, "resources")
    known = frozenset(ids(tasks))
    single = (
        *duplicates(document, "tasks"),
        *(
            fault
            for i, task in numbered(document, "tasks")
            for fault in (*_order_faults(i, task, known), *_request_faults(i, task, resources))
        ),
        *_size_faults(tasks, is_weighted=text(document, "objective") == "weighted_completion"),
    )
    network = Network.of(tasks)
    cycles = tuple(_cycle_faults(network))
    if single or cycles:
        return (*single, *cycles)
    late = tuple(_chain_faults(network))
    return late or tuple(_window_faults(network, tasks, resources))


def _order_faults(i: int, task: object, known: frozenset[str]) -> Iterator[Fault]:
    seen: set[str] = set()
    for j, other in enumerate(items(task, "after")):
        if not isinstance(other, str):
            continue
        path = f"tasks[{i}].after[{j}]"
        if other not in known:
            yield fault_at(path, other, "is no task of this project")
        elif other in seen:
            yield fault_at(path, other, "is named twice")
        seen.add(other)


def _request_faults(i: int, task: object, resources: object) -> Iterator[Fault]:
    for name in mapping(task, "request"):
        path = f"tasks[{i}].request.{name}"
        amount = integer(read(task, "request"), name, None)
        if not isinstance(resources, dict) or name not in resources:
            yield fault_at(path, name, "is no resource of this project")
            continue
        capacity = integer(resources, name, None)
        if amount is not None and capacity is not None and 0 <= capacity < amount:
            yield fault_at(path, amount, f"is more than there is: {capacity}")


def _size_faults(tasks: Sequence[object], *, is_weighted: bool) -> Iterator[Fault]:
    """Times and costs that would grow beyond what can be counted exactly."""
    last = max((whole(task, "release") for task in tasks), default=0)
    last += sum(whole(task, "duration") for task in tasks)
    if last > LATEST:
        reason = f"durations and releases add up to more than {LATEST}; count in a coarser unit"
        yield fault_at("tasks", last, reason)
    elif is_weighted and last * sum(whole(task, "weight", 1) for task in tasks) > LATEST:
        reason = f"weights times the longest possible time are more than {LATEST}; scale them down"
        yield fault_at("tasks", last, reason)


def _cycle_faults(network: Network) -> Iterator[Fault]:
    """One fault a ring, named by its members; rings that share a task are told as one or two."""
    left = set(range(len(network.names))) - set(network.order)
    while left:
        ring = _ring(network, left)
        names = [shorten(network.names[i]) for i in (*ring, ring[0])]
        if len(names) > SHOWN_MEMBERS:
            names = [*names[: SHOWN_MEMBERS - 1], "...", names[-1]]
        path = f"tasks[{ring[0]}].after"
        reason = f"closes a ring of {len(ring)}: {' waits for '.join(names)}"
        yield fault_at(path, list(ring), reason)
        left -= set(ring)
        left = _on_rings(network, left)


def _ring(network: Network, left: set[int]) -> list[int]:
    """A ring among the tasks left, each of which waits for another of them or is behind one."""
    left = _on_rings(network, left)
    at = min(left)
    chain: dict[int, None] = {}
    while at not in chain:
        chain[at] = None
        at = next(j for j in network.before[at] if j in left)
    members = list(chain)
    members = members[members.index(at) :]
    first = members.index(min(members))
    return [*members[first:], *members[:first]]


def _on_rings(network: Network, left: set[int]) -> set[int]:
    """Those of the tasks left that wait for another of them, all the way back."""
    waits = {i: sum(j in left for j in network.before[i]) for i in left}
    free = [i for i in sorted(left) if waits[i] == 0]
    for i in free:
        for j in network.behind[i]:
            if j in waits:
                waits[j] -= 1
                if waits[j] == 0:
                    free.append(j)
    return left - set(free)


def _chain_faults(network: Network) -> Iterator[Fault]:
    heads = network.heads()
    for i, deadline in enumerate(network.deadlines):
        end = heads[i] + network.durations[i]
        if deadline is not None and end > deadline:
            chain = " -> ".join(_chain(network, heads, i))
            reason = f"can't be met: the task ends at {end} at the earliest, by {chain}"
            yield fault_at(f"tasks[{i}].deadline", deadline, reason)


def _chain(network: Network, heads: list[int], i: int) -> list[str]:
    """The names along the longest chain that ends with task i."""
    chain = [i]
    while heads[chain[-1]] > network.releases[chain[-1]]:
        last = chain[-1]
        chain.append(
            next(j for j in network.before[last] if heads[j] + network.durations[j] == heads[last])
        )
    names = [shorten(network.names[j]) for j in reversed(chain)]
    if len(names) > SHOWN_MEMBERS:
        names = [*names[:2], "...", *names[3 - SHOWN_MEMBERS :]]
    return names


def _window_faults(network: Network, tasks: Sequence[object], resources: object) -> Iterator[Fault]:
    """Overloaded windows, at most one a resource (docs/model.md, S7)."""
    heads, dues = network.heads(), network.dues()
    due = sorted((end, i) for i, end in enumerate(dues) if end is not None)
    if not due or not isinstance(resources, dict):
        return
    for name in resources:
        capacity = integer(resources, name, None)
        work = {
            i: network.durations[i] * amount
            for _, i in due
            if (amount := integer(read(tasks[i], "request"), name, 0))
        }
        if capacity is None or capacity <= 0 or sum(work.values()) == 0:
            continue
        found = _overload(heads, [(end, i) for end, i in due if work.get(i)], work, capacity)
        if found is None:
            continue
        begin, end = found
        inside = [i for last, i in due if last <= end and heads[i] >= begin and work.get(i)]
        members = ", ".join(shorten(network.names[i]) for i in inside[:SHOWN_MEMBERS])
        if len(inside) > SHOWN_MEMBERS:
            members += f" and {len(inside) - SHOWN_MEMBERS} more"
        needed = sum(work[i] for i in inside)
        yield fault_at(
            f"tasks[{inside[-1]}].deadline",
            network.deadlines[inside[-1]],
            f"can't be met with {members}: between {begin} and {end} they need {needed} of "
            f"{shorten(name)}, which has {capacity * (end - begin)}",
        )


def _overload(
    heads: Sequence[int], due: Sequence[tuple[int, int]], work: dict[int, int], capacity: int
) -> tuple[int, int] | None:
    """The first window that the tasks within it overload, as (begin, end), by the tree of Vilim
    (Timetable edge finding filtering algorithm, CPAIOR 2011): leaves by head, and each node keeps
    the work below it and the envelope max over heads of capacity x head + work from there on.
    """
    leaves = sorted((i for _, i in due), key=lambda i: heads[i])
    size = 1 << max(1, (len(leaves) - 1).bit_length())
    place = {i: size + rank for rank, i in enumerate(leaves)}
    total = [0] * (2 * size)
    envelope: list[float] = [float("-inf")] * (2 * size)
    waiting = [*due, (0, -1)]
    for (end, i), (following, _) in pairwise(waiting):
        p = place[i]
        total[p] = work[i]
        envelope[p] = capacity * heads[i] + work[i]
        while p > 1:
            p //= 2
            left, right = 2 * p, 2 * p + 1
            total[p] = total[left] + total[right]
            envelope[p] = max(envelope[left] + total[right], envelope[right])
        if end != following and envelope[1] > capacity * end:
            return _begin(heads, [j for last, j in due if last <= end], work, capacity, end), end
    return None


def _begin(
    heads: Sequence[int], inside: Sequence[int], work: dict[int, int], capacity: int, end: int
) -> int:
    """Where the overloaded window that ends at ``end`` begins; the latest such moment."""
    needed = 0
    ordered = sorted(inside, key=lambda i: -heads[i])
    for rank, i in enumerate(ordered):
        needed += work[i]
        is_last = rank + 1 == len(ordered) or heads[ordered[rank + 1]] < heads[i]
        if is_last and needed > capacity * (end - heads[i]):
            return heads[i]
    return heads[ordered[-1]]
