"""One task at a time: the state of the cluster, and a place for whatever arrives.

The device of every running replica is kept and never rebuilt from counts. A task of one replica
that is separate from nobody is placed by compiled code; for the others the state is the same and
the rules are those of the quick answer (``solver.greedy``).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from solver.compiled import online
from solver.compiled.online import NO_NODE, Demand, Known
from solver.greedy import grow
from solver.instant.board import Board
from solver.instant.demand import Expectation
from solver.occupancy import Occupancy, occupied
from solver.problem import DEFAULT_QUEUE, Problem, Slot, Task
from solver.score import slots_before

MOST_KNOWN = 256
"""Shapes for which is remembered what each node is worth; those met longest ago are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A running replica that changes its place."""

    task: str
    before: Slot
    after: Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where an arrived task runs; no slots if it fits nowhere. The moves come first, in order."""

    slots: tuple[Slot, ...]
    moves: tuple[Move, ...] = ()


class Planner:
    """The cluster with all that runs. Every answer obeys the rules of docs/model.md."""

    def __init__(self, problem: Problem) -> None:
        self._occupancy: Occupancy = occupied(problem, slots_before(problem))
        self._occupancy.chains.setdefault(DEFAULT_QUEUE, ())
        self._board = Board(problem.nodes)
        self._expectation = Expectation()
        self._rows: OrderedDict[int, int] = OrderedDict()
        self._known = _unknown(len(problem.nodes))
        for task in problem.tasks:
            shape = self._board.shape_of(task)
            self._expectation.count(self._board.expected(shape), task.replicas)
        self._demand: Demand = self._draw_up()
        for task in problem.tasks:
            for slot in task.placed:
                self._count_in(task, slot, 1)

    @property
    def slots(self) -> Mapping[str, tuple[Slot, ...]]:
        """Task id -> where its replicas run, for all that run."""
        return {task: tuple(slots) for task, slots in self._occupancy.slots.items()}

    def arrive(self, task: Task, max_moves: int = 0) -> Decision:  # noqa: ARG002 - soon
        """Places a task that isn't running, all its replicas or at least the fewest it takes.

        At most ``max_moves`` running replicas move for it, none is lost. The task is taken to be
        valid, as those of a ``Problem`` are; ``placed`` isn't read. Raises ``ValueError`` for a
        task that runs already or whose queue the problem doesn't know.
        """
        if task.id in self._occupancy.slots:
            raise ValueError(f"task {task.id} is running")
        if task.queue not in self._occupancy.chains:
            raise ValueError(f"queue {task.queue} of task {task.id} is none of the problem's")
        self._meet(task)
        shape = self._board.shape_of(task)
        self._expectation.count(self._board.expected(shape), task.replicas)
        if self._expectation.is_due:
            self._demand = self._draw_up()
        if task.replicas > 1 or self._occupancy.separated.get(task.id):
            return Decision(slots=self._place_with_company(task))
        if not self._occupancy.fits_queues(task):
            return Decision(slots=())
        slot = self._place(task, shape)
        return Decision(slots=() if slot is None else (slot,))

    def end(self, task_id: str) -> None:
        """A running task has ended. Raises ``KeyError`` for one that isn't running."""
        task = self._occupancy.tasks[task_id]
        for slot in tuple(self._occupancy.slots[task_id]):
            self._occupancy.remove(task, slot)
            self._count_in(task, slot, -1)

    def _meet(self, task: Task) -> None:
        occupancy = self._occupancy
        occupancy.tasks[task.id] = task
        for other in task.separate_from:
            for one, two in ((task.id, other), (other, task.id)):
                known = occupancy.separated.get(one, ())
                if two not in known:
                    occupancy.separated[one] = tuple(sorted((*known, two)))

    def _place(self, task: Task, shape: int) -> Slot | None:
        board = self._board
        n = online.find(
            board.cluster, board.shapes, self._demand, self._known, self._row(shape), shape
        )
        if n == NO_NODE:
            return None
        devices = self._devices(task, shape, n)
        online.count_in(board.cluster, board.shapes, self._demand, shape, n, devices, 1)
        slot = board.slot(n, devices.tolist())
        self._occupancy.add(task, slot)
        return slot

    def _devices(self, task: Task, shape: int, n: int) -> np.ndarray:
        devices = np.empty(task.request.gpus, dtype=np.int64)
        if task.request.gpus == 1:
            devices[0] = self._known.device[self._rows[shape], n]
        elif task.request.gpus:
            online.choose_devices(self._board.cluster, self._board.shapes, shape, n, devices)
        return devices

    def _place_with_company(self, task: Task) -> tuple[Slot, ...]:
        grow(self._occupancy, task)
        slots = tuple(self._occupancy.slots.get(task.id, ()))
        for slot in slots:
            self._count_in(task, slot, 1)
        return slots

    def _count_in(self, task: Task, slot: Slot, sign: int) -> None:
        board = self._board
        shape = board.shape_of(task)
        n, devices = board.place_of(slot)
        online.count_in(board.cluster, board.shapes, self._demand, shape, n, devices, sign)

    def _row(self, shape: int) -> int:
        """The row of ``known`` for this shape; a fresh one, or the one not asked for longest."""
        row = self._rows.get(shape)
        if row is None:
            row = len(self._rows)
            if row == MOST_KNOWN:
                _, row = self._rows.popitem(last=False)
            self._known.version[row] = 0
            self._rows[shape] = row
        self._rows.move_to_end(shape)
        return row

    def _draw_up(self) -> Demand:
        shapes = self._board.shapes
        demand = self._expectation.demand(shapes.node_accepts, shapes.device_accepts)
        online.assess_all(self._board.cluster, demand)
        return demand


def _unknown(nodes: int) -> Known:
    return Known(
        version=np.zeros((MOST_KNOWN, nodes), dtype=np.int64),
        score=np.zeros((MOST_KNOWN, nodes)),
        device=np.zeros((MOST_KNOWN, nodes), dtype=np.int64),
    )
