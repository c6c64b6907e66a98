"""The cluster and the shapes of tasks as arrays for compiled code, with room to grow."""

from typing import Any

import numpy as np
import numpy.typing as npt

from solver.compiled.online import DIMENSIONS, PEERS, Cluster, Shapes
from solver.eligibility import accepts, matches_model
from solver.instant.demand import Expected
from solver.instant.rows import FIRST_ROWS, Numbering, with_columns, with_room
from solver.links import pair_cost
from solver.objective import NODE_DIMENSIONS
from solver.problem import WHOLE_DEVICE_MILLI, Device, Node, Slot, Task

NO_DEVICE = -1
_COUNT, _VERSION = 0, 1


class Board:
    """Nodes, devices, what is free of them, and the shapes that were met.

    ``cluster`` and ``shapes`` are replaced when they grow: don't keep them.
    """

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        width = max((len(node.devices) for node in nodes), default=0) or 1
        rows = max(len(nodes), 1)
        self.nodes: list[Node] = []
        self.node_index: dict[str, int] = {}
        self.device_index: list[dict[str, int]] = []
        self._likenesses: Numbering[Any] = Numbering()
        self._like: list[Node] = []
        """One node of each likeness"""
        self._kinds: Numbering[tuple[str, bool]] = Numbering()
        self._wirings: Numbering[tuple[int, ...]] = Numbering()
        self._shapes: Numbering[Any] = Numbering()
        self._expected: list[Expected] = []
        self._node_rules: Numbering[Any] = Numbering()
        self._node_rule_of: list[Task] = []
        """One task of each rule"""
        self._device_rules: Numbering[Any] = Numbering()
        self._device_rule_of: list[Task] = []
        self.cluster = Cluster(
            free=np.zeros((rows, DIMENSIONS), dtype=np.int64),
            milli=np.full((rows, width), NO_DEVICE, dtype=np.int64),
            memory=np.zeros((rows, width), dtype=np.int64),
            kind=np.zeros((rows, width), dtype=np.int64),
            likeness=np.zeros(rows, dtype=np.int64),
            wiring=np.zeros(rows, dtype=np.int64),
            pair_cost=np.zeros((1, PEERS, PEERS), dtype=np.int64),
            version=np.zeros(rows, dtype=np.int64),
            stranded=np.zeros(rows),
            counter=np.zeros(2, dtype=np.int64),
        )
        self.shapes = Shapes(
            need=np.zeros((FIRST_ROWS, DIMENSIONS), dtype=np.int64),
            size=np.zeros((FIRST_ROWS, 3), dtype=np.int64),
            rule=np.zeros((FIRST_ROWS, 2), dtype=np.int64),
            node_accepts=np.zeros((1, rows), dtype=np.uint8),
            device_accepts=np.zeros((1, 1), dtype=np.uint8),
        )
        for node in nodes:
            self.add_node(node)

    def add_node(self, node: Node) -> int:
        """Appends an empty node; its number. What accepts it is computed for all rules known."""
        n = len(self.nodes)
        self._make_room(n + 1, len(node.devices))
        self.nodes.append(node)
        self.node_index[node.id] = n
        self.device_index.append({device.id: d for d, device in enumerate(node.devices)})
        key = (node.schedulable, tuple(sorted(node.labels.items())), tuple(sorted(node.domains)))
        likeness, is_new = self._likenesses.number(key)
        if is_new:
            self._like.append(node)
        cluster = self.cluster
        cluster.likeness[n] = likeness
        cluster.wiring[n] = self._wiring(node)
        cluster.free[n] = [getattr(node, dimension) for dimension in NODE_DIMENSIONS]
        for d, device in enumerate(node.devices):
            cluster.milli[n, d] = WHOLE_DEVICE_MILLI
            cluster.memory[n, d] = device.memory_mib
            cluster.kind[n, d] = self._kind(device)
        for rule, task in enumerate(self._node_rule_of):
            self.shapes.node_accepts[rule, n] = accepts(task, node)
        cluster.counter[_COUNT] = n + 1
        cluster.counter[_VERSION] += 1
        cluster.version[n] = cluster.counter[_VERSION]
        return n

    def shape_of(self, task: Task) -> int:
        """The number of the task's shape; tasks of one shape see every node alike."""
        selector = tuple(sorted(task.node_selector.items())) if task.node_selector else ()
        place = (selector, task.pack_within, task.spread_over)
        shape, is_new = self._shapes.number((task.request, task.gpu_models, place))
        if is_new:
            self._add_shape(shape, task, place)
        return shape

    def expected(self, shape: int) -> Expected:
        """The shape as demand counts it."""
        return self._expected[shape]

    def place_of(self, slot: Slot) -> tuple[int, npt.NDArray[np.int64]]:
        """The numbers of a slot's node and devices."""
        n = self.node_index[slot.node]
        index = self.device_index[n]
        return n, np.array([index[device] for device in slot.devices], dtype=np.int64)

    def slot(self, n: int, devices: list[int]) -> Slot:
        """The slot of these numbers."""
        node = self.nodes[n]
        return Slot(node=node.id, devices=tuple(node.devices[d].id for d in devices))

    def _add_shape(self, shape: int, task: Task, place: Any) -> None:
        request = task.request
        need = tuple(getattr(request, dimension) for dimension in NODE_DIMENSIONS)
        milli = request.gpu_milli if request.gpus else 0
        memory_mib = request.gpu_memory_mib if request.gpus else 0
        rules = self._node_rule(task, place), self._device_rule(task)
        self.shapes = shapes = self.shapes._replace(
            need=with_room(self.shapes.need, shape + 1),
            size=with_room(self.shapes.size, shape + 1),
            rule=with_room(self.shapes.rule, shape + 1),
        )
        shapes.need[shape] = need
        shapes.size[shape] = request.gpus, milli, memory_mib
        shapes.rule[shape] = rules
        self._expected.append(
            Expected(
                need=need,
                gpus=request.gpus,
                milli=milli,
                memory_mib=memory_mib,
                node_rule=rules[0],
                device_rule=rules[1],
            )
        )

    def _node_rule(self, task: Task, place: Any) -> int:
        rule, is_new = self._node_rules.number(place)
        if is_new:
            self._node_rule_of.append(task)
            table = with_room(self.shapes.node_accepts, rule + 1)
            self.shapes = self.shapes._replace(node_accepts=table)
            by_likeness = np.array([accepts(task, node) for node in self._like], dtype=np.uint8)
            if len(by_likeness):
                count = len(self.nodes)
                table[rule, :count] = by_likeness[self.cluster.likeness[:count]]
        return rule

    def _device_rule(self, task: Task) -> int:
        rule, is_new = self._device_rules.number(task.gpu_models)
        if is_new:
            self._device_rule_of.append(task)
            table = with_room(self.shapes.device_accepts, rule + 1)
            self.shapes = self.shapes._replace(device_accepts=table)
            for kind, (model, healthy) in enumerate(self._kinds.keys):
                table[rule, kind] = healthy and matches_model(task, Device(id="any", model=model))
        return rule

    def _kind(self, device: Device) -> int:
        kind, is_new = self._kinds.number((device.model, device.healthy))
        if is_new:
            table = with_columns(self.shapes.device_accepts, kind + 1)
            self.shapes = self.shapes._replace(device_accepts=table)
            for rule, task in enumerate(self._device_rule_of):
                table[rule, kind] = device.healthy and matches_model(task, device)
        return kind

    def _wiring(self, node: Node) -> int:
        costs = [0] * PEERS**2
        if len(node.devices) <= PEERS and any(d.links or d.numa is not None for d in node.devices):
            for i, first in enumerate(node.devices):
                for j, second in enumerate(node.devices[:i]):
                    costs[PEERS * i + j] = costs[PEERS * j + i] = pair_cost(first, second)
        wiring, is_new = self._wirings.number(tuple(costs))
        if is_new:
            table = with_room(self.cluster.pair_cost, wiring + 1)
            table[wiring] = np.array(costs, dtype=np.int64).reshape(PEERS, PEERS)
            self.cluster = self.cluster._replace(pair_cost=table)
        return wiring

    def _make_room(self, rows: int, width: int) -> None:
        cluster, shapes = self.cluster, self.shapes
        self.cluster = cluster._replace(
            free=with_room(cluster.free, rows),
            milli=with_room(with_columns(cluster.milli, width, NO_DEVICE), rows, NO_DEVICE),
            memory=with_room(with_columns(cluster.memory, width), rows),
            kind=with_room(with_columns(cluster.kind, width), rows),
            likeness=with_room(cluster.likeness, rows),
            wiring=with_room(cluster.wiring, rows),
            version=with_room(cluster.version, rows),
            stranded=with_room(cluster.stranded, rows),
        )
        self.shapes = shapes._replace(node_accepts=with_columns(shapes.node_accepts, rows))
