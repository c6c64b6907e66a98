"""The running tasks that compiled code may move, by number."""

import numpy as np

from solver.compiled.ejection import NO_UNIT, Units, link, unlink
from solver.compiled.online import NO_NODE
from solver.instant.rows import FIRST_ROWS, with_room

_GIVEN_OUT = 0


class Roster:
    """Task ids and unit numbers. ``arrays`` is replaced when it grows: don't keep it."""

    def __init__(self, nodes: int) -> None:
        self._tasks: list[str] = []
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self.arrays = Units(
            node=np.full(FIRST_ROWS, NO_NODE, dtype=np.int64),
            device=np.full(FIRST_ROWS, NO_UNIT, dtype=np.int64),
            shape=np.zeros(FIRST_ROWS, dtype=np.int64),
            next=np.full(FIRST_ROWS, NO_UNIT, dtype=np.int64),
            first=np.full(max(nodes, 1), NO_UNIT, dtype=np.int64),
            counter=np.zeros(2, dtype=np.int64),
        )

    def task(self, unit: int) -> str:
        """The id of a unit's task."""
        return self._tasks[unit]

    def enlist(self, task: str, shape: int, n: int, device: int) -> None:
        """The task runs on device ``device`` of node n and may move."""
        if self._free:
            unit = self._free.pop()
            self._tasks[unit] = task
        else:
            unit = len(self._tasks)
            self._tasks.append(task)
            self._make_room(unit + 1)
        self._numbers[task] = unit
        self.arrays.device[unit] = device
        self.arrays.shape[unit] = shape
        link(self.arrays, unit, n)

    def strike(self, task: str) -> None:
        """The task doesn't run any more, or may not move any more; if it is here at all."""
        unit = self._numbers.pop(task, None)
        if unit is not None:
            unlink(self.arrays, unit)
            self._free.append(unit)

    def make_room_for_nodes(self, nodes: int) -> None:
        """So many nodes may have units from now on."""
        self.arrays = self.arrays._replace(first=with_room(self.arrays.first, nodes, NO_UNIT))

    def _make_room(self, units: int) -> None:
        arrays = self.arrays
        if units > len(arrays.node):
            self.arrays = arrays._replace(
                node=with_room(arrays.node, units, NO_NODE),
                device=with_room(arrays.device, units, NO_UNIT),
                shape=with_room(arrays.shape, units),
                next=with_room(arrays.next, units, NO_UNIT),
            )
        self.arrays.counter[_GIVEN_OUT] = units
