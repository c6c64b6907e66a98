"""Bounds that hold for a problem as posed and cost no search: what could be placed at the very
best.
"""

from collections import Counter
from collections.abc import Hashable

from solver.eligibility import device_accepts, room_of_empty_node
from solver.objective import NODE_DIMENSIONS, TermName
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Problem, Task
from solver.score import broken_places, levels, terms_of


def free_bounds(problem: Problem) -> tuple[int, ...]:
    """One bound for each entry of the objective, in its order; costs can't be below 0 (model.md,
    B1).
    """
    bounds: list[int] = []
    for term in terms_of(problem):
        match term:
            case TermName.PLACED:
                bounds += [placed_bound(problem, level) for level in levels(problem)]
            case TermName.REPAIR:
                bounds.append(repair_bound(problem))
            case _:
                bounds.append(0)
    return tuple(bounds)


def repair_bound(problem: Problem) -> int:
    """What the tasks that may not be touched break by themselves stays broken."""
    frozen = {
        task.id: task.placed
        for task in problem.tasks
        if problem.budget.max_moves == 0 or not task.preemptible
    }
    return broken_places(problem, frozen)


def placed_bound(problem: Problem, level: int) -> int:
    """No more than tasks that fit at all ask for, nor than the cluster's devices hold."""
    tasks = [task for task in problem.tasks if task.priority == level]
    cluster = _EmptyCluster(problem)
    most = {task.id: cluster.most_replicas(task) for task in tasks}
    without_gpu = sum(most[task.id] for task in tasks if not task.request.gpus)
    with_gpu = [task for task in tasks if task.request.gpus]
    asked = sum(most[task.id] * task.request.weight for task in with_gpu)
    held = {(slot.node, device) for t in with_gpu for slot in t.placed for device in slot.devices}
    takers = {(task.gpu_models, task.request.gpu_memory_mib): task for task in with_gpu}
    is_wanted = {
        _device_kind(device): any(device_accepts(task, device) for task in takers.values())
        for device in {_device_kind(d): d for n in problem.nodes for d in n.devices}.values()
    }
    usable = sum(
        (node.id, device.id) in held or (node.schedulable and is_wanted[_device_kind(device)])
        for node in problem.nodes
        for device in node.devices
    )
    if _starts_overfull(problem):
        return without_gpu + asked
    return without_gpu + min(asked, WHOLE_DEVICE_MILLI * usable)


def most_replicas(problem: Problem, task: Task) -> int:
    """How many replicas of the task would run on the empty cluster, or do run; 0 if the gang is too
    large.
    """
    room = len(task.placed)
    for node in problem.nodes:
        room += room_of_empty_node(task, node)
        if room >= task.replicas:
            return task.replicas
    return room if room >= task.fewest or task.placed else 0


class _EmptyCluster:
    """:func:`most_replicas`, counted once for each kind of task and of node: 20,000 tasks that fit
    none of 5,000 nodes are no reason to look at all pairs.
    """

    def __init__(self, problem: Problem) -> None:
        self._labels = sorted({label for task in problem.tasks for label in task.node_selector})
        self._count = Counter(map(self._kind, problem.nodes))
        self._nodes = {self._kind(node): node for node in problem.nodes}
        self._rooms: dict[Hashable, int] = {}

    def most_replicas(self, task: Task) -> int:
        room = len(task.placed) + self._room(task)
        if room >= task.replicas:
            return task.replicas
        return room if room >= task.fewest or task.placed else 0

    def _room(self, task: Task) -> int:
        selector = tuple(sorted(task.node_selector.items()))
        wishes = (task.gpu_models, selector, task.pack_within, task.spread_over)
        key = (task.request, task.replicas, wishes)
        if key not in self._rooms:
            self._rooms[key] = sum(
                count * room_of_empty_node(task, self._nodes[kind])
                for kind, count in self._count.items()
            )
        return self._rooms[key]

    def _kind(self, node: Node) -> Hashable:
        """Equal for nodes on which every task has the same room."""
        return (
            node.schedulable,
            tuple(getattr(node, dimension) for dimension in NODE_DIMENSIONS),
            tuple(node.labels.get(label) for label in self._labels),
            frozenset(node.domains),
            frozenset(Counter(map(_device_kind, node.devices)).items()),
        )


def _device_kind(device: Device) -> tuple[str, bool, int]:
    return device.model, device.healthy, device.memory_mib


def _starts_overfull(problem: Problem) -> bool:
    """True when a device holds more than 1000 milli at the start, and may go on doing so."""
    use: dict[tuple[str, str], int] = {}
    for task in problem.tasks:
        for slot in task.placed:
            for device in slot.devices:
                key = (slot.node, device)
                use[key] = use.get(key, 0) + task.request.gpu_milli
    return any(milli > WHOLE_DEVICE_MILLI for milli in use.values())
