"""Why a task waits, and what would let it run: all true reasons, and fixes that were tried."""

from collections.abc import Iterator
from dataclasses import replace

from solver.deadline import Deadline
from solver.eligibility import (
    device_accepts,
    has_domains,
    matches_model,
    matches_selector,
    room_of_empty_node,
)
from solver.greedy import Answer, packing_sets, place_gang
from solver.objective import NODE_DIMENSIONS
from solver.occupancy import Occupancy, occupied
from solver.plan import Fix, FixKind, Reason, ReasonCode, Unplaced
from solver.problem import WHOLE_DEVICE_MILLI, Node, Problem, Task
from solver.score import is_touched

MOST_FIXED = 50
"""Fixes are tried for so many kinds of waiting task, the most urgent first; each may need a look at
every node.
"""
ALLOWANCE_SECONDS = 0.25
"""Reasons are part of the answer, so they may take this long beyond the budget. Then those who are
left are told what one look at the nodes shows.
"""
MOST_FREED = 3
"""So many running tasks are named whose end would make room, the smallest first."""
NODE_SHAPES_TRIED = 8
SHARES_TRIED_MILLI = (900, 800, 750, 700, 600, 500, 400, 300, 250, 200, 100, 50)
SMALL_COUNT = 16
NODE_ID_OF_ONE_MORE = "\x00one more"


Explanation = tuple[tuple[Reason, ...], tuple[Fix, ...]]


def explain(problem: Problem, answer: Answer, deadline: Deadline) -> tuple[Unplaced, ...]:
    """One entry for each task that doesn't run under the answer, in the problem's order.

    Tasks that differ in nothing but their names are explained once.
    """
    waiting = [task for task in problem.tasks if not answer.get(task.id)]
    if not waiting:
        return ()
    final = occupied(problem, answer)
    enlarged = _enlarged(problem, answer)
    found: dict[object, Explanation] = {}
    for task in sorted(waiting, key=lambda task: (-task.priority, task.id)):
        kind = _kind(final, task)
        if kind in found:
            continue
        if deadline.is_over(allowance_seconds=ALLOWANCE_SECONDS):
            found[kind] = tuple(_quick_reasons(final, task)), ()
            continue
        fixes = tuple(_fixes(final, enlarged, task)) if len(found) < MOST_FIXED else ()
        found[kind] = tuple(_reasons(final, task, answer)), fixes
    return tuple(_named(task, found[_kind(final, task)]) for task in waiting)


def _kind(state: Occupancy, task: Task) -> object:
    """Equal for tasks that wait for the same reasons."""
    return (
        task.queue,
        task.priority,
        task.replicas,
        task.fewest,
        task.request,
        task.gpu_models,
        tuple(sorted(task.node_selector.items())),
        task.pack_within,
        task.spread_over,
        tuple(state.separated.get(task.id, ())),
        task.placed,
    )


def _named(task: Task, explanation: Explanation) -> Unplaced:
    reasons, fixes = explanation
    own = (replace(fix, task=task.id) if fix.kind is FixKind.SHRINK else fix for fix in fixes)
    return Unplaced(task=task.id, reasons=reasons, fixes=tuple(own))


def _quick_reasons(state: Occupancy, task: Task) -> tuple[Reason, ...]:
    """What is true by one look at each node, for those whom there is no time to explain in full."""
    nodes = state.problem.nodes
    full = sum(not _has_room(state, task, node) for node in nodes)
    shortage = Reason(code=ReasonCode.NO_CAPACITY, text=_shortage(state, task), nodes=full)
    found = (*_static_reasons(state.problem, task), *_queue_reasons(state, task))
    return (*found, shortage) if full or not found else found


def _enlarged(problem: Problem, answer: Answer) -> list[tuple[Node, Occupancy]]:
    """The final state with one more empty node, once for each shape of node there is."""
    shapes: dict[object, Node] = {}
    for node in problem.nodes:
        makes = tuple(sorted((d.model, d.memory_mib, d.healthy) for d in node.devices))
        sizes = tuple(getattr(node, dimension) for dimension in NODE_DIMENSIONS)
        places = (*sorted(node.labels.items()), *sorted(node.domains.items()))
        shapes.setdefault((makes, sizes, places), node)
    found = []
    for node in list(shapes.values())[:NODE_SHAPES_TRIED]:
        healthy = tuple(replace(device, healthy=True) for device in node.devices)
        extra = replace(node, id=NODE_ID_OF_ONE_MORE, schedulable=True, devices=healthy)
        larger = replace(problem, nodes=(*problem.nodes, extra))
        found.append((node, occupied(larger, answer)))
    return found


def fits(state: Occupancy, task: Task) -> bool:
    """True when the whole gang could start in this state; the state is left as it was."""
    sets = packing_sets(state, task) if task.pack_within is not None else [state.problem.nodes]
    for nodes in sets:
        if place_gang(state, task, tuple(nodes)):
            for slot in list(state.slots[task.id]):
                state.remove(task, slot)
            return True
    return False


def _reasons(state: Occupancy, task: Task, answer: Answer) -> Iterator[Reason]:
    """Every reason that holds, the ones about the task itself before those about what else runs."""
    reasons = [
        *_static_reasons(state.problem, task),
        *_queue_reasons(state, task),
        *_room_reasons(state, task),
        *_rival_reasons(state, task, answer),
    ]
    if not reasons:  # it would fit where things ended: an earlier objective term kept it out
        text = "it fits only where it would cost a term that comes first in the objective"
        reasons.append(
            Reason(code=ReasonCode.NO_CAPACITY, text=text, nodes=len(state.problem.nodes))
        )
    yield from reasons


def _static_reasons(problem: Problem, task: Task) -> Iterator[Reason]:
    """What keeps the task off nodes whatever else runs there."""
    nodes = problem.nodes
    total = len(nodes)
    closed = [node for node in nodes if not node.schedulable or _is_unhealthy_for(task, node)]
    if closed:
        text = f"{len(closed)} of {total} nodes are cordoned or have too few healthy devices"
        yield Reason(code=ReasonCode.UNSCHEDULABLE_NODES, text=text, nodes=len(closed))
    mismatched = [node for node in nodes if not matches_selector(task, node)]
    if mismatched:
        wanted = "; ".join(f"{k} in {', '.join(v)}" for k, v in sorted(task.node_selector.items()))
        text = f"{len(mismatched)} of {total} nodes don't match the selector {wanted}"
        yield Reason(code=ReasonCode.NO_MATCHING_NODE, text=text, nodes=len(mismatched))
    strange = [
        node for node in nodes if task.gpu_models and _models(task, node) < task.request.gpus
    ]
    if strange:
        models = ", ".join(task.gpu_models)
        text = f"{len(strange)} of {total} nodes have fewer than {task.request.gpus} of {models}"
        yield Reason(code=ReasonCode.NO_MATCHING_MODEL, text=text, nodes=len(strange))
    homeless = [node for node in nodes if not has_domains(task, node)]
    if homeless:
        domains = " and ".join(d for d in (task.pack_within, task.spread_over) if d is not None)
        text = f"{len(homeless)} of {total} nodes have no value of {domains}"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=len(homeless))


def _is_unhealthy_for(task: Task, node: Node) -> bool:
    """True when the node has the devices, but too few of them are healthy."""
    right = [device for device in node.devices if matches_model(task, device)]
    healthy = sum(device.healthy for device in right)
    return healthy < task.request.gpus <= len(right)


def _models(task: Task, node: Node) -> int:
    return sum(matches_model(task, device) for device in node.devices)


def _queue_reasons(state: Occupancy, task: Task) -> Iterator[Reason]:
    for queue in state.chains[task.queue]:
        for dimension, limit in sorted(queue.limit.items()):
            need = state.need_of_gang(task, dimension)
            use = state.queue_use[queue.id][dimension]
            if need and use + need > limit:
                text = (
                    f"needs {need} {dimension} in queue {queue.id}, "
                    f"which holds {use} of its limit {limit}"
                )
                yield Reason(code=ReasonCode.QUEUE_LIMIT, text=text)


def _room_reasons(state: Occupancy, task: Task) -> Iterator[Reason]:
    """What is missing on the nodes that would take the task: room, the whole gang's, or the right
    place.
    """
    nodes = state.problem.nodes
    full = [node for node in nodes if not _has_room(state, task, node)]
    if full:
        yield Reason(code=ReasonCode.NO_CAPACITY, text=_shortage(state, task), nodes=len(full))
    apart = [node for node in nodes if not state.is_apart(task, node)]
    if apart:
        others = ", ".join(state.separated[task.id])
        text = f"{len(apart)} of {len(nodes)} nodes run a task that it is separate from ({others})"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=len(apart))
    if fits(state, task):
        return
    free = replace(task, pack_within=None, spread_over=None)
    if task.pack_within != task.spread_over and fits(state, free):
        wish = (
            f"within one {task.pack_within}"
            if task.pack_within
            else f"evenly over {task.spread_over}"
        )
        text = f"{task.fewest} replicas fit, but not {wish}"
        yield Reason(code=ReasonCode.TOPOLOGY, text=text, nodes=len(nodes))
    elif task.fewest > 1 and any(state.slot_on(task, node) is not None for node in nodes):
        fitting = _most_that_fit(state, free)
        text = f"needs {task.fewest} replicas at once, and {fitting} fit"
        yield Reason(code=ReasonCode.GANG_DOES_NOT_FIT, text=text, nodes=len(nodes))


def _has_room(state: Occupancy, task: Task, node: Node) -> bool:
    return state.fits_node(task, node) and state.devices_on(task, node) is not None


def _most_that_fit(state: Occupancy, task: Task) -> int:
    return next(
        (
            count
            for count in _steps_down(task.fewest)
            if fits(state, replace(task, replicas=count, min_replicas=count))
        ),
        0,
    )


def _shortage(state: Occupancy, task: Task) -> str:
    """What a replica needs, beside the most that any one node that takes the task has free."""
    request = task.request
    nodes = [
        node for node in state.problem.nodes if node.schedulable and matches_selector(task, node)
    ]
    parts = []
    for dimension in NODE_DIMENSIONS:
        need = getattr(request, dimension)
        best = max((state.free[node.id][dimension] for node in nodes), default=0)
        if need > best:
            parts.append(f"{need} {dimension} (the best node has {max(0, best)} free)")
    if request.gpus:
        free = [[d.id for d in node.devices if device_accepts(task, d)] for node in nodes]
        if request.is_share:
            best = max(
                (
                    state.free_milli[n.id][d]
                    for n, ids in zip(nodes, free, strict=True)
                    for d in ids
                ),
                default=0,
            )
            parts.append(
                f"{request.gpu_milli} gpu_milli of one device (the best has {max(0, best)} free)"
            )
        else:
            best = max(
                (
                    sum(state.free_milli[n.id][d] == WHOLE_DEVICE_MILLI for d in ids)
                    for n, ids in zip(nodes, free, strict=True)
                ),
                default=0,
            )
            parts.append(
                f"{request.gpus} whole device{'s' * (request.gpus > 1)} on one node "
                f"(the best node has {best} free)"
            )
        if request.gpu_memory_mib:
            parts.append(f"{request.gpu_memory_mib} MiB on each device")
    return "each replica needs " + (
        " and ".join(parts) or "more at once than any one node has free"
    )


def _rival_reasons(state: Occupancy, task: Task, answer: Answer) -> Iterator[Reason]:
    """Whether others are in the way: more urgent ones, or ones that may not be moved any more."""
    if fits(state, task):
        return
    problem = state.problem
    higher = [t for t in problem.tasks if t.priority > task.priority and answer.get(t.id)]
    held_by = {slot.node for t in higher for slot in answer[t.id]}
    if higher and _fits_without(state, task, higher):
        text = f"the room that it needs is held by tasks of higher priority than {task.priority}"
        yield Reason(code=ReasonCode.LOWER_PRIORITY, text=text, nodes=len(held_by))
    most = problem.budget.max_moves
    touched = sum(is_touched(t, answer.get(t.id, ())) for t in problem.tasks)
    movable = [
        t for t in problem.tasks if t.placed and t.preemptible and t.placed == answer.get(t.id)
    ]
    if most is not None and touched >= most and movable and _fits_without(state, task, movable):
        text = f"running tasks would have to give way, and max_moves is {most}"
        nodes = len({slot.node for t in movable for slot in t.placed})
        yield Reason(code=ReasonCode.MOVES_EXHAUSTED, text=text, nodes=nodes)


def _fits_without(state: Occupancy, task: Task, others: list[Task]) -> bool:
    lifted = [(other, slot) for other in others for slot in state.slots.get(other.id, ())]
    for other, slot in lifted:
        state.remove(other, slot)
    fitting = fits(state, task)
    for other, slot in lifted:
        state.add(other, slot)
    return fitting


def _fixes(state: Occupancy, enlarged: list[tuple[Node, Occupancy]], task: Task) -> Iterator[Fix]:
    """Changes after which the task was seen to fit into the final state."""
    yield from _freeing(state, task)
    yield from _shrinking(state, task)
    for node, larger in enlarged:
        if room_of_empty_node(task, larger.nodes[NODE_ID_OF_ONE_MORE]) and fits(larger, task):
            text = f"one more node like {node.id} would hold it"
            yield Fix(kind=FixKind.ADD_NODE, text=text, node=node.id)
            break


def _freeing(state: Occupancy, task: Task) -> Iterator[Fix]:
    running = sorted(
        (state.tasks[other] for other in state.slots),
        key=lambda t: (t.request.weight * state.count(t), t.priority, t.id),
    )
    found = 0
    for other in running:
        if found < MOST_FREED and _fits_without(state, task, [other]):
            found += 1
            yield Fix(kind=FixKind.FREE, text=f"it fits once task {other.id} ends", task=other.id)


def _shrinking(state: Occupancy, task: Task) -> Iterator[Fix]:
    """The first smaller request that fits: fewer replicas, fewer devices, a smaller share, less of
    the rest.
    """
    for dimension, quantity, smaller in _smaller(task):
        if fits(state, smaller):
            asked = task.fewest if dimension == "min_replicas" else getattr(task.request, dimension)
            text = f"it fits with {dimension} {quantity} instead of {asked}"
            yield Fix(
                kind=FixKind.SHRINK,
                text=text,
                task=task.id,
                dimension=dimension,
                quantity=quantity,
            )
            return


def _smaller(task: Task) -> Iterator[tuple[str, int, Task]]:
    """Each smaller request worth trying, the largest of its kind first."""
    request = task.request
    for fewest in _steps_down(task.fewest):
        yield "min_replicas", fewest, replace(task, replicas=fewest, min_replicas=fewest, placed=())
    for gpus in _steps_down(request.gpus):
        yield "gpus", gpus, replace(task, request=replace(request, gpus=gpus))
    if request.gpus == 1:
        for milli in SHARES_TRIED_MILLI:
            if milli < request.gpu_milli:
                yield "gpu_milli", milli, replace(task, request=replace(request, gpu_milli=milli))
    for dimension in (*NODE_DIMENSIONS, "gpu_memory_mib"):
        need = getattr(request, dimension)
        for part in (need * 3 // 4, need // 2, need // 4):
            if part:
                yield dimension, part, replace(task, request=replace(request, **{dimension: part}))


def _steps_down(count: int) -> Iterator[int]:
    """Every smaller count of a small one, halves of a large one; never 0."""
    while count > 1:
        count = count - 1 if count <= SMALL_COUNT else count // 2
        yield count
