"""A project as arrays, in the form that compiled code reads (``solver/compiled/decoding.py``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solver.arrays import Ints
from solver.scheduling.projects.faults import LATEST
from solver.scheduling.projects.network import Network
from solver.scheduling.projects.project import Objective, Project

Compiled = tuple[Ints, Ints, Ints, Ints, Ints, Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectArrays:
    """Tasks are numbered 0 to n - 1 so that each comes after those that it waits for."""

    names: tuple[str, ...]
    resources: tuple[str, ...]
    network: Compiled
    mirror: Compiled
    """The same backwards: each task waits for those that are behind it."""
    heads: Ints
    """[n] The earliest start by releases and what is before the task (docs/model.md, S6)."""
    dues: Ints
    """[n] The latest end by deadlines and what is behind the task; ``LATEST`` without any."""
    deadlines: Ints
    """[n] Its own; ``LATEST`` without one."""
    weights: Ints
    """[n]; empty where it's the makespan that counts."""

    @classmethod
    def of(cls, project: Project) -> "ProjectArrays":
        network = Network.of(project.tasks)
        order = network.order
        tasks = [project.tasks[i] for i in order]
        resources = tuple(project.resources)
        number = {i: j for j, i in enumerate(order)}
        resource_number = {name: k for k, name in enumerate(resources)}
        durations = _ints([task.duration for task in tasks])
        needs = [
            [(resource_number[name], amount) for name, amount in task.request.items() if amount]
            for task in tasks
        ]
        need_from = _ints([0, *np.cumsum([len(pairs) for pairs in needs], dtype=np.int64)])
        need_table = _ints([pair for pairs in needs for pair in pairs]).reshape(-1, 2)
        capacity = _ints(list(project.resources.values()))
        rest = (need_from, need_table, capacity)
        waits = _compressed([[number[i] for i in network.before[j]] for j in order])
        behind = _compressed([[number[i] for i in network.behind[j]] for j in order])
        heads, dues = network.heads(), network.dues()
        weighs = project.objective == Objective.WEIGHTED_COMPLETION
        return cls(
            names=tuple(task.id for task in tasks),
            resources=resources,
            network=(durations, *waits, *rest),
            mirror=(durations, *behind, *rest),
            heads=_ints([heads[i] for i in order]),
            dues=_ints([_or_latest(dues[i]) for i in order]),
            deadlines=_ints([_or_latest(task.deadline) for task in tasks]),
            weights=_ints([task.weight for task in tasks] if weighs else []),
        )

    @property
    def durations(self) -> Ints:
        """[n]"""
        return self.network[0]

    @property
    def capacity(self) -> Ints:
        """[K]"""
        return self.network[5]

    def waits(self, j: int) -> Sequence[int]:
        """The tasks that task j waits for."""
        _, begin, waits, *_ = self.network
        return waits[begin[j] : begin[j + 1]].tolist()

    def needs(self, j: int) -> Sequence[tuple[int, int]]:
        """Task j's needs, (resource, amount)."""
        begin, needs = self.network[3], self.network[4]
        return [(k, amount) for k, amount in needs[begin[j] : begin[j + 1]].tolist()]

    def tails(self) -> Ints:
        """[n] The least time from each task's end to that of the last one behind it."""
        tails = [0] * len(self.names)
        durations = self.durations.tolist()
        for j in range(len(tails) - 1, -1, -1):
            for i in self.waits(j):
                tails[i] = max(tails[i], tails[j] + durations[j])
        return _ints(tails)

    def named(self, starts: Ints) -> Mapping[str, int]:
        """Starts by the tasks' ids."""
        return dict(zip(self.names, starts.tolist(), strict=True))


def _or_latest(due: int | None) -> int:
    return LATEST if due is None else due


def _compressed(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    begin = _ints([0, *np.cumsum([len(items) for items in lists], dtype=np.int64)])
    return begin, _ints([item for items in lists for item in items])


def _ints(values: Sequence[object]) -> Ints:
    return np.array(values, dtype=np.int64)
