"""The search of the large gear: construct, then ruin and recreate until nothing is left to gain."""

from collections.abc import Set

import numpy as np
import numpy.typing as npt

from solver.arrays import Arrays, Ints
from solver.compiled import places as at
from solver.compiled.construct import construct
from solver.deadline import Deadline
from solver.greedy import Answer
from solver.large.board import Board

CONSTRUCT_STEP = 2_000
"""Tasks between two looks at the clock."""
CONSTRUCT_SECONDS = 2.0
"""A first answer may take so long, whatever the budget."""
IMPROVE_STEP = 2_000
"""Ruins between two looks at the clock, some 20 ms."""
PREEMPT_STEP = 20
MOST_SHARES_MOVED = 3
"""Devices that more shares hold are left to the ruins."""
GANG_LOOKS = 20_000
"""Nodes that gangs look at between two looks at the clock, about: as long as the ruins take."""
RUINS_PER_SECOND = 100_000
"""What a second of the deterministic budget is worth."""

Merit = npt.NDArray[np.float64]


class LargeSearch:
    """One search on one board. Every state between two steps is an answer that obeys all rules."""

    def __init__(self, arrays: Arrays, start: Answer, frozen: Set[str] = frozenset()) -> None:
        self.board = Board(arrays, start, frozen)
        self.problem = arrays.problem
        self._nodes = np.array([node.schedulable for node in self.problem.nodes], dtype=bool)
        self.merit: Merit = np.maximum(arrays.shapes.weight, 1).astype(np.float64)[:, None].copy()
        self.board.tasks[:, at.TASK_CLASS] = arrays.shape

    def construct(self, deadline: Deadline, kinds: Ints | None = None) -> None:
        """Starts what waits, the most urgent and largest first. ``kinds`` [T] names the class of
        nodes that each task is to go to, -1 for any.
        """
        waiting = self._order()
        order = self.board.task_places(waiting)
        kinds = np.full(len(order), -1) if kinds is None else kinds[waiting]
        costs = np.zeros(len(self.problem.nodes), dtype=np.int64)
        begun = deadline.spent()
        if not len(costs):
            return
        for begin in range(0, len(order), CONSTRUCT_STEP):
            end = min(begin + CONSTRUCT_STEP, len(order))
            construct(self.board.m, order, kinds, costs, begin, end)
            if deadline.spent() - begun > CONSTRUCT_SECONDS and deadline.left() <= 0:
                break

    def preempt(self, deadline: Deadline) -> None:
        """Makes room for tasks that wait while less urgent ones run, where that is allowed."""
        m = self.board.m
        running = self.board.tasks[self.board.tasks[:, at.RUNNING] > 0, at.RANK]
        waiting = self._order()
        tasks = self.board.tasks[waiting]
        is_single = tasks[:, at.REPLICAS] == 1
        waiting = waiting[is_single & (tasks[:, at.RANK] < running.max(initial=0))]
        if not len(waiting) or not m[at.RUNS_BEFORE] or not m[at.MOST_TOUCHED]:
            return
        # Imported here, as what follows is: a quick answer shouldn't wait for what it doesn't use.
        from solver.compiled.moves import preempt  # noqa: PLC0415

        costs = np.zeros(len(self.problem.nodes), dtype=np.int64)
        order, begun = self.board.task_places(waiting), deadline.spent()
        for begin in range(0, len(order), PREEMPT_STEP):
            preempt(m, order, costs, begin, min(begin + PREEMPT_STEP, len(order)))
            if deadline.spent() - begun > CONSTRUCT_SECONDS and deadline.left() <= 0:
                break

    def consolidate(self) -> None:
        """Empties devices that few shares hold, where the objective likes that."""
        m = self.board.m
        if m[at.FRAGMENTATION] < 0 and m[at.PACK] < 0 and m[at.POWER] < 0:
            return
        from solver.compiled.moves import consolidate  # noqa: PLC0415

        for size in range(1, MOST_SHARES_MOVED + 1):
            consolidate(m, size)

    def guide(self, task_class: Ints, node_class: Ints, merit: Merit) -> None:
        """From now on refill nodes by ``merit`` [task classes, node classes]."""
        self.board.tasks[:, at.TASK_CLASS] = task_class
        self.board.nodes[:, at.CLASS] = node_class
        self.merit = np.ascontiguousarray(merit)

    def improve(
        self,
        deadline: Deadline,
        goal: tuple[int, ...],
        reserve_seconds: float,
        patience: int | None = None,
    ) -> None:
        """Ruins and recreates until the goal is reached, only the reserve is left, or so many ruins
        of each node in a row have made nothing better.
        """
        nodes, gangs = self._open_nodes(), self._gangs()
        if not len(nodes) or not self.board.units[:, at.MOVABLE].any():
            return
        from solver.compiled.gangs import improve_gangs  # noqa: PLC0415
        from solver.compiled.refill import improve  # noqa: PLC0415

        idle = 0
        looks = max(1, GANG_LOOKS // len(nodes)) if len(gangs) else 0
        while deadline.left() > reserve_seconds and self.board.values() != goal:
            better = improve(self.board.m, self.merit, nodes, IMPROVE_STEP)
            if looks:
                better += improve_gangs(self.board.m, gangs, looks)
            idle = 0 if better else idle + IMPROVE_STEP
            if patience is not None and idle > patience * len(nodes):
                break
            seconds = IMPROVE_STEP / RUINS_PER_SECOND
            deadline.charge(wall_seconds=seconds, deterministic_seconds=seconds)

    def answer(self) -> Answer:
        """Where everything runs now."""
        return self.board.answer()

    def _order(self) -> Ints:
        """Waiting tasks: the highest level first, then the largest gang, then equals together."""
        tasks, shapes = self.board.tasks, self.board.arrays.shapes
        shape = self.board.arrays.shape
        waiting = np.flatnonzero((tasks[:, at.RUNNING] == 0) & (tasks[:, at.REPLICAS] > 0))
        waiting = waiting[~self.board.is_left_out[waiting]]
        of = shape[waiting]
        size = shapes.weight[of] * tasks[waiting, at.FEWEST]
        keys = (of, -shapes.need[of, 1], -shapes.need[of, 0], -size, tasks[waiting, at.RANK])
        return waiting[np.lexsort(keys)]

    def _gangs(self) -> Ints:
        """The gangs that the search may start and stop."""
        tasks, first = self.board.tasks, self.board.unit_start[:-1]
        several = np.flatnonzero((tasks[:, at.REPLICAS] > 1) & ~self.board.is_left_out)
        return self.board.task_places(several[self.board.units[first[several], at.MOVABLE] > 0])

    def _open_nodes(self) -> Ints:
        return self.board.node_places(np.flatnonzero(self._nodes))
