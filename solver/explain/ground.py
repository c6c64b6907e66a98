"""What is so whatever runs: nodes and devices as arrays, and which of them a task's wishes allow.

Sizes: N nodes, D devices (those of one node side by side), K dimensions of a node.
"""

from collections.abc import Mapping

import numpy as np

from solver.arrays import Arrays, Flags, Ints
from solver.objective import NODE_DIMENSIONS, NODE_DOMAIN
from solver.problem import Task

Selector = tuple[tuple[str, tuple[str, ...]], ...]


class Ground:
    """The cluster without its tasks. Answers are remembered: many tasks have equal wishes."""

    def __init__(self, arrays: Arrays) -> None:
        cluster = arrays.cluster
        self.problem = arrays.problem
        self.nodes = arrays.problem.nodes
        self.capacity: Ints = np.ascontiguousarray(cluster.room.T)
        """[K, N]"""
        self.start = cluster.device_start
        self.devices: Ints = np.diff(cluster.device_start)
        """[N] how many devices a node has."""
        self.memory_mib = cluster.device_memory_mib
        """[D]"""
        self.schedulable: Flags = np.array([node.schedulable for node in self.nodes], dtype=bool)
        devices = [device for node in self.nodes for device in node.devices]
        self.healthy: Flags = np.array([device.healthy for device in devices], dtype=bool)
        self.has_unhealthy = not self.healthy.all()
        self.models = tuple(dict.fromkeys(device.model for device in devices))
        code = {model: i for i, model in enumerate(self.models)}
        self._model: Ints = np.array([code[device.model] for device in devices], dtype=np.int64)
        self._domains = {
            name: cluster.domain_value[row] for row, name in enumerate(cluster.domains)
        }
        self._everywhere: Flags = np.ones(len(self.nodes), dtype=bool)
        self._all_devices: Flags = np.ones(len(devices), dtype=bool)
        self._with_devices = np.flatnonzero(self.devices)
        self._labels: dict[str, tuple[dict[str, int], Ints]] = {}
        self._selected: dict[Selector, Flags] = {}
        self._accepted: dict[tuple[str, ...], Flags] = {}
        self._counts: dict[tuple[tuple[str, ...], bool], Ints] = {}

    def sum_per_node(self, values: Ints | Flags) -> Ints:
        """[D] -> [N]"""
        total = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(values, out=total[1:])
        return total[self.start[1:]] - total[self.start[:-1]]

    def most_per_node(self, values: Ints) -> Ints:
        """[D] -> [N] the largest value of a node's devices, 0 on a node without."""
        most = np.zeros(len(self.nodes), dtype=np.int64)
        if len(self._with_devices):
            starts = self.start[:-1][self._with_devices]
            most[self._with_devices] = np.maximum.reduceat(values, starts)
        return most

    def devices_of(self, node: int) -> slice:
        """Where the node's devices are in arrays of [D]."""
        return slice(int(self.start[node]), int(self.start[node + 1]))

    def matches_selector(self, selector: Mapping[str, tuple[str, ...]]) -> Flags:
        """[N] nodes that have one of the values named for each label."""
        if not selector:
            return self._everywhere
        key = tuple(sorted(selector.items()))
        if key not in self._selected:
            matching = self._everywhere
            for label, values in key:
                codes, of_node = self._label(label)
                wanted = [codes[value] for value in values if value in codes]
                matching = matching & np.isin(of_node, wanted)
            self._selected[key] = matching
        return self._selected[key]

    def _label(self, label: str) -> tuple[dict[str, int], Ints]:
        """The numbers of the label's values, and [N] the number of each node's, -1 without."""
        if label not in self._labels:
            codes: dict[str, int] = {}
            of_node = []
            for node in self.nodes:
                value = node.labels.get(label)
                of_node.append(-1 if value is None else codes.setdefault(value, len(codes)))
            self._labels[label] = codes, np.array(of_node, dtype=np.int64)
        return self._labels[label]

    def has_domains(self, task: Task) -> Flags:
        """[N] nodes with a value of each domain that the task is packed in or spread over."""
        found = self._everywhere
        for domain in (task.pack_within, task.spread_over):
            if domain is not None and domain != NODE_DOMAIN:
                found = found & (self.values_of(domain) >= 0)
        return found

    def values_of(self, domain: str) -> Ints:
        """[N] the number of each node's value of the domain, -1 where it has none."""
        if domain == NODE_DOMAIN:
            return np.arange(len(self.nodes))
        return self._domains[domain]

    def accepts_model(self, models: tuple[str, ...]) -> Flags:
        """[D] devices of these models; all of them if none is named."""
        if not models:
            return self._all_devices
        if models not in self._accepted:
            wanted = [i for i, model in enumerate(self.models) if model in models]
            self._accepted[models] = np.isin(self._model, wanted)
        return self._accepted[models]

    def usable(self, models: tuple[str, ...], *, healthy_only: bool) -> Flags:
        """[D] devices of these models, healthy ones only if that is asked."""
        accepted = self.accepts_model(models)
        return accepted & self.healthy if healthy_only and self.has_unhealthy else accepted

    def usable_count(self, models: tuple[str, ...], *, healthy_only: bool) -> Ints:
        """[N] how many of those a node has."""
        key = models, healthy_only
        if key not in self._counts:
            self._counts[key] = self.sum_per_node(self.usable(models, healthy_only=healthy_only))
        return self._counts[key]


def needs_of(task: Task) -> list[tuple[int, int]]:
    """(dimension's index, quantity) for each dimension of a node that a replica needs any of."""
    quantities = [getattr(task.request, dimension) for dimension in NODE_DIMENSIONS]
    return [(k, quantity) for k, quantity in enumerate(quantities) if quantity]
