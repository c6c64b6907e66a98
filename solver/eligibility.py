"""Where a task could run at all, whatever else runs: the static half of the question."""

from collections import Counter

from solver.objective import NODE_DIMENSIONS, NODE_DOMAIN
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Problem, Queue, Request, Task

Value = tuple[str, str]
"""A value of a domain: (domain, value)."""


def value_of(node: Node, domain: str) -> Value | None:
    """The node's value of a domain, None where it has none."""
    if domain == NODE_DOMAIN:
        return NODE_DOMAIN, node.id
    value = node.domains.get(domain)
    return None if value is None else (domain, value)


def own_value_of(node: Node, domain: str) -> Value:
    """The node's value of a domain; a node that has none is a value of its own."""
    return value_of(node, domain) or (NODE_DOMAIN, node.id)


def matches_selector(task: Task, node: Node) -> bool:
    """True when each label that the task names has one of the values it names."""
    return all(node.labels.get(label) in values for label, values in task.node_selector.items())


def has_domains(task: Task, node: Node) -> bool:
    """True when the node has a value of each domain that the task is packed in or spread over."""
    domains = (task.pack_within, task.spread_over)
    return all(value_of(node, domain) is not None for domain in domains if domain is not None)


def accepts(task: Task, node: Node) -> bool:
    """True when the node may take something new of this task, room aside."""
    return node.schedulable and matches_selector(task, node) and has_domains(task, node)


def matches_model(task: Task, device: Device) -> bool:
    """True when the device's model is one that the task takes."""
    return not task.gpu_models or device.model in task.gpu_models


def device_accepts(task: Task, device: Device) -> bool:
    """True when the device may take a new replica of this task, room aside."""
    return (
        device.healthy
        and matches_model(task, device)
        and task.request.gpu_memory_mib <= device.memory_mib
    )


def shares_of(request: Request, device: Device) -> int:
    """How many replicas' shares an empty device holds."""
    shares = WHOLE_DEVICE_MILLI // request.gpu_milli
    if request.gpu_memory_mib:
        shares = min(shares, device.memory_mib // request.gpu_memory_mib)
    return shares


def room_of_empty_node(task: Task, node: Node) -> int:
    """How many replicas of the task the node could hold if nothing else ran on it; 0 if it accepts
    none.
    """
    if not accepts(task, node):
        return 0
    request = task.request
    room = task.replicas
    for dimension in NODE_DIMENSIONS:
        if need := getattr(request, dimension):
            room = min(room, getattr(node, dimension) // need)
    if request.gpus:
        shares = sum(
            shares_of(request, device) for device in node.devices if device_accepts(task, device)
        )
        room = min(room, shares // request.gpus)
    return room


def spread_rooms(task: Task, nodes: tuple[Node, ...]) -> Counter[Value]:
    """Value of ``spread_over`` -> how many replicas its nodes could hold when empty."""
    rooms: Counter[Value] = Counter()
    for node in nodes:
        value = value_of(node, task.spread_over or NODE_DOMAIN)
        if value is not None:
            rooms[value] += room_of_empty_node(task, node)
    return rooms


def queue_chains(problem: Problem) -> dict[str, tuple[Queue, ...]]:
    """Queue id -> the queue and its ancestors, as far as they are listed."""
    queues = {queue.id: queue for queue in problem.queues}
    chains: dict[str, tuple[Queue, ...]] = {}
    for name in {task.queue for task in problem.tasks} | set(queues):
        chain: list[Queue] = []
        at: str | None = name
        while at is not None and at in queues:
            chain.append(queues[at])
            at = queues[at].parent
        chains[name] = tuple(chain)
    return chains


def queue_need(request: Request, dimension: str) -> int:
    """What one replica counts for in a dimension of a queue."""
    match dimension:
        case "gpu_milli":
            return request.gpus * request.gpu_milli
        case "gpu_memory_mib":
            return request.gpus * request.gpu_memory_mib
        case _:
            return getattr(request, dimension)


def separated(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Task id -> the tasks that it shares no node with, whichever of the two says so."""
    apart: dict[str, dict[str, None]] = {}
    for task in problem.tasks:
        for other in task.separate_from:
            apart.setdefault(task.id, {})[other] = None
            apart.setdefault(other, {})[task.id] = None
    return {task: tuple(sorted(others)) for task, others in sorted(apart.items())}
