"""The queues' shares in a round: each task's band, and with it its level in the problem.

Where only one queue has tasks a task's level is its priority.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

from protocol.task import PRIORITY_MAX
from solver.eligibility import queue_need
from solver.problem import Node, Queue, Request, Task
from solver.shares.bands import Band, Shares, Standing, bands
from solver.shares.entitlements import Tree, entitlements
from solver.shares.history import faded_weights

BAND_WIDTH = 10 * PRIORITY_MAX
"""More than priorities reach to either side: a level is its band times this, plus the priority."""
SHARED = ("gpu_milli", "cpu_milli", "memory_mib", "disk_mib", "network_mbps")
"""What is shared out, whether a queue names it or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the shares make of a round's tasks."""

    tree: Tree
    shares: Shares
    bands: Mapping[str, Band]
    """Empty where only one queue has tasks."""

    def level(self, task: Task) -> int:
        """For a task that the problem has at its user's priority, what takes its place."""
        band = self.bands.get(task.id)
        return task.priority if band is None else band * BAND_WIDTH + task.priority

    @property
    def entitlements(self) -> dict[str, dict[str, int]]:
        """By queue, with those below it."""
        return {queue: dict(share.whole) for queue, share in self.shares.now.items()}


def rank(
    nodes: Sequence[Node],
    tasks: Sequence[Task],
    queues: Sequence[Queue],
    usage: Mapping[str, float],
) -> Ranking:
    """The bands of these tasks, oldest first; ``usage`` is by queue, of its own tasks."""
    tree = Tree(with_implicit(queues, (task.queue for task in tasks)))
    ways = _Ways(nodes, tree)
    demand: dict[str, Counter[str]] = defaultdict(Counter)
    for task in tasks:
        demand[task.queue].update(ways.demand(task))
    capacity = ways.capacity(tasks)
    now = entitlements(tree, demand, capacity)
    shares = Shares(
        guaranteed=entitlements(tree, demand, capacity, guaranteed_only=True),
        now=now,
        by_history=entitlements(
            tree, demand, capacity, weights=faded_weights(tree, usage), units=ways.units(tasks)
        ),
    )
    if len(demand) < 2:
        return Ranking(tree=tree, shares=shares, bands={})
    order = sorted(tasks, key=lambda task: (-task.priority, not task.placed))
    standings = [
        Standing(
            task=task.id,
            queue=task.queue,
            needs=ways.needs(task),
            runs=bool(task.placed),
            fixed=bool(task.placed) and not task.preemptible,
        )
        for task in order
    ]
    return Ranking(tree=tree, shares=shares, bands=bands(standings, shares))


def with_implicit(queues: Sequence[Queue], named: Iterable[str]) -> tuple[Queue, ...]:
    """The queues, and those that tasks name and nobody has defined."""
    known = {queue.id for queue in queues}
    return (*queues, *(Queue(id=name) for name in sorted(set(named) - known)))


def of_model(dimension: str) -> str | None:
    """The GPU model of a dimension like ``gpu_milli:H100``."""
    _, separator, model = dimension.partition(":")
    return model if separator else None


class _Ways:
    """What tasks need, in the dimensions that are shared out."""

    def __init__(self, nodes: Sequence[Node], tree: Tree) -> None:
        self._nodes = nodes
        self._model = {
            (node.id, device.id): device.model for node in nodes for device in node.devices
        }
        named = {d for queue in tree.queues.values() for d in (*queue.guaranteed, *queue.limit)}
        self._plain = sorted({*SHARED, *(d for d in named if of_model(d) is None)})
        self._models = sorted(model for d in named if (model := of_model(d)) is not None)
        self._here = sorted(set(self._model.values()))
        self._known: dict[tuple[Request, int, tuple[str, ...]], tuple[Counter[str], ...]] = {}
        """Thousands of tasks have a few dozen shapes."""

    def needs(self, task: Task) -> tuple[Counter[str], ...]:
        """What the task holds, or the ways in which it could be had."""
        if task.placed:
            return (self._held(task),)
        key = task.request, task.fewest, task.gpu_models
        if key not in self._known:
            self._known[key] = self._ways(task)
        return self._known[key]

    def _ways(self, task: Task) -> tuple[Counter[str], ...]:
        plain = self._of(task.request, task.fewest)
        gpus = plain["gpu_milli"]
        models = [m for m in task.gpu_models or self._here if m in self._here]
        ways = [
            plain + Counter({_dimension(model): gpus} if model in self._models else {})
            for model in models
        ]
        return tuple(ways) if gpus and self._models and ways else (plain,)

    def demand(self, task: Task) -> Counter[str]:
        """What the task holds, or could use: of each model that it may get."""
        if task.placed:
            return self._held(task)
        wanted = self._of(task.request, task.replicas)
        gpus = wanted["gpu_milli"]
        for model in self._models:
            if gpus and (not task.gpu_models or model in task.gpu_models):
                wanted[_dimension(model)] = gpus
        return wanted

    def units(self, tasks: Iterable[Task]) -> Counter[str]:
        """By dimension, what all tasks need multiples of: a device where nobody asks for less, say.
        Else of few devices among many queues each would be entitled to a part that is no use."""
        found = Counter[str]()
        for task in tasks:
            for need in self.needs(task):
                for dimension, quantity in need.items():
                    found[dimension] = gcd(found[dimension], quantity)
        return found

    def capacity(self, tasks: Iterable[Task]) -> Counter[str]:
        """What can be had or is held: of nodes and devices that take nothing new, only what is in
        use."""
        whole = Counter[str]()
        closed_nodes: set[str] = set()
        closed_devices: set[tuple[str, str]] = set()
        for node in self._nodes:
            if not node.schedulable:
                closed_nodes.add(node.id)
                continue
            for dimension in SHARED[1:]:
                whole[dimension] += getattr(node, dimension)
            for device in node.devices:
                if not device.healthy:
                    closed_devices.add((node.id, device.id))
                    continue
                whole["gpus"] += 1
                self._add(whole, device.model, 1000)
                whole["gpu_memory_mib"] += device.memory_mib
        for task in tasks:
            for slot in task.placed:
                if slot.node in closed_nodes:
                    for dimension in SHARED[1:]:
                        whole[dimension] += getattr(task.request, dimension)
                for device in slot.devices:
                    if slot.node in closed_nodes or (slot.node, device) in closed_devices:
                        model = self._model.get((slot.node, device), "")
                        whole["gpus"] += 1
                        self._add(whole, model, task.request.gpu_milli)
                        whole["gpu_memory_mib"] += task.request.gpu_memory_mib
        models = map(_dimension, self._models)
        return Counter({dimension: whole[dimension] for dimension in (*self._plain, *models)})

    def _held(self, task: Task) -> Counter[str]:
        key = task.request, len(task.placed), ("",)
        if key not in self._known:
            self._known[key] = (self._of(task.request, len(task.placed)),)
        [held] = self._known[key]
        if not self._models:
            return held
        held = held.copy()
        for slot in task.placed:
            for device in slot.devices:
                model = self._model.get((slot.node, device), "")
                if model in self._models:
                    held[_dimension(model)] += task.request.gpu_milli
        return held

    def _of(self, request: Request, replicas: int) -> Counter[str]:
        return Counter(
            {
                dimension: quantity * replicas
                for dimension in self._plain
                if (quantity := queue_need(request, dimension))
            }
        )

    @staticmethod
    def _add(whole: Counter[str], model: str, milli: int) -> None:
        whole["gpu_milli"] += milli
        whole[_dimension(model)] += milli


def _dimension(model: str) -> str:
    return f"gpu_milli:{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What limits on models of GPU leave a waiting task."""

    may: tuple[str, ...]
    """None: it can't be placed at all."""
    full: tuple[str, ...]
    """Those that it could have, were it not for its queue's limits."""


def models_left(nodes: Sequence[Node], tasks: Sequence[Task], tree: Tree) -> dict[str, Models]:
    """By waiting task that a queue's limit keeps from a model, what that leaves it. Most urgent and
    oldest first: what one may come to hold, of whichever model, the next ones don't.

    The problem's own limits know no models (contract, section 2), so what a model's limit leaves is
    said by what tasks may be placed on.
    """
    ways = _Ways(nodes, tree)
    here = sorted({device.model for node in nodes for device in node.devices})
    left = {
        (queue.id, model): limit
        for queue in tree.queues.values()
        for dimension, limit in queue.limit.items()
        if (model := of_model(dimension)) is not None
    }
    if not left:
        return {}
    allowed: dict[str, Models] = {}
    placed = [task for task in tasks if task.placed]
    waiting = sorted((t for t in tasks if not t.placed), key=lambda task: -task.priority)
    for task in placed:
        held = ways.needs(task)[0]
        for queue, model in product(tree.chain(task.queue), here):
            if (queue, model) in left:
                left[queue, model] -= held[_dimension(model)]
    for task in waiting:
        gpus = queue_need(task.request, "gpu_milli")
        chain = tree.chain(task.queue)
        limited = [key for key in product(chain, here) if key in left]
        if not gpus or not limited:
            continue
        full = {model for queue, model in limited if left[queue, model] < gpus * task.fewest}
        models = tuple(m for m in task.gpu_models or here if m not in full)
        lost = tuple(sorted(full & set(task.gpu_models or here)))
        if lost:
            allowed[task.id] = Models(may=models, full=lost)
        for queue, model in limited:
            if model in models:
                left[queue, model] -= gpus * task.replicas
    return allowed
