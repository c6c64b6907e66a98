"""One task at a time: the state of the cluster, and a place for whatever arrives.

The device of every running replica is kept and never rebuilt from counts. A task of one replica
that is separate from nobody is placed by compiled code; for the others the state is the same and
the rules are those of the quick answer (``solver.greedy``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solver.compiled import ejection, online
from solver.compiled.ejection import NO_UNIT
from solver.compiled.online import NO_NODE, NO_ROW, Demand, Known
from solver.greedy import grow, in_order
from solver.instant.board import Board
from solver.instant.demand import Expectation
from solver.instant.roster import Roster
from solver.instant.rows import FIRST_ROWS, with_columns, with_room
from solver.occupancy import Occupancy, occupied
from solver.problem import DEFAULT_QUEUE, Node, Problem, Slot, Task
from solver.score import slots_before

MOST_KNOWN, MOST_KNOWN_NODES = 2048, 4_000_000
"""For so many shapes, and so many nodes of all of them together, is remembered what a node is worth
to a shape (24 bytes each); shapes met longest ago are forgotten."""
LOOKED_AT = 16
"""So many running tasks are looked at, after each arrival, for a better place."""
LEAST_GAIN = 16384.0 * 10
"""Nothing moves for less: ten milli that are stranded for all that is expected (model.md, I1)."""


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
    """The cluster with all that runs. Every answer obeys the rules of docs/model.md.

    >>> from solver import Device, Node, Planner, Problem, Request, Task
    >>> node = Node(id="n1", devices=(Device(id="0"), Device(id="1")))
    >>> planner = Planner(Problem(version=1, nodes=(node,), tasks=()))
    >>> share = Request(gpus=1, gpu_milli=600)
    >>> [len(planner.arrive(Task(id=name, request=share)).slots) for name in ("a", "b", "c")]
    [1, 1, 0]
    >>> planner.end("a")
    >>> planner.arrive(Task(id="d", request=share)).slots == planner.slots["d"] != ()
    True
    >>> sorted(planner.slots)
    ['b', 'd']
    """

    def __init__(self, problem: Problem) -> None:
        self._occupancy: Occupancy = occupied(problem, slots_before(problem))
        self._occupancy.chains.setdefault(DEFAULT_QUEUE, ())
        self._board = Board(problem.nodes)
        self._expectation = Expectation()
        self._known = _nothing_known(len(problem.nodes))
        self._units = Roster(len(problem.nodes))
        for task in problem.tasks:
            shape = self._shape_of(task)
            self._expectation.count(self._board.expected(shape), task.replicas)
        self._demand: Demand = self._draw_up()
        for task in problem.tasks:
            for slot in task.placed:
                self._count_in(task, slot, 1)
            if len(task.placed) == 1:
                self._enlist(task, task.placed[0])

    @property
    def slots(self) -> Mapping[str, tuple[Slot, ...]]:
        """Task id -> where its replicas run, for all that run."""
        return {task: tuple(slots) for task, slots in self._occupancy.slots.items()}

    def arrive(self, task: Task, max_moves: int = 0) -> Decision:
        """Places a task that isn't running, all its replicas or at least the fewest it takes.

        At most ``max_moves`` running tasks move for it, none is lost. The task is taken to be
        valid, as those of a ``Problem`` are; ``placed`` isn't read. Raises ``ValueError`` for a
        task that runs already or whose queue the problem doesn't know.
        """
        if task.id in self._occupancy.slots:
            raise ValueError(f"task {task.id} is running")
        if task.queue not in self._occupancy.chains:
            raise ValueError(f"queue {task.queue} of task {task.id} is none of the problem's")
        self._meet(task)
        shape = self._shape_of(task)
        self._expectation.count(self._board.expected(shape), task.replicas)
        if self._expectation.is_due:
            self._demand = self._draw_up()
        if task.replicas > 1 or self._occupancy.separated.get(task.id):
            return Decision(slots=self._place_with_company(task))
        if not self._occupancy.fits_queues(task):
            return Decision(slots=())
        moves: list[Move] = []
        slot = self._place(task, shape)
        if slot is None and max_moves > 0:
            moves += self._make_room(shape, max_moves)
            slot = self._place(task, shape) if moves else None
        if len(moves) < max_moves:
            moves += self._tidy(max_moves - len(moves))
        if slot is not None:  # only now: what has just come doesn't move
            self._enlist(task, slot)
        return Decision(slots=() if slot is None else (slot,), moves=tuple(moves))

    def arrive_all(self, tasks: Sequence[Task], max_moves: int = 0) -> tuple[Decision, ...]:
        """Places tasks that have come together, the most urgent and largest first.

        One decision for each, in the order in which they are given; each may move ``max_moves``.
        A decision says where a task ran when it was placed: a later one's moves may say otherwise.
        """
        decisions = {task.id: self.arrive(task, max_moves) for task in in_order(tasks)}
        return tuple(decisions[task.id] for task in tasks)

    def end(self, task_id: str) -> None:
        """A running task has ended. Raises ``KeyError`` for one that isn't running."""
        task = self._occupancy.tasks[task_id]
        self._units.strike(task_id)
        for slot in tuple(self._occupancy.slots[task_id]):
            self._occupancy.remove(task, slot)
            self._count_in(task, slot, -1)

    def add_node(self, node: Node) -> None:
        """A node has joined, with nothing on it. Raises ``InvalidProblem`` if it can't be."""
        self._occupancy.add_node(node)
        self._board.add_node(node)
        rows = len(self._board.cluster.free)
        self._known = self._known._replace(
            version=with_columns(self._known.version, rows),
            score=with_columns(self._known.score, rows),
            device=with_columns(self._known.device, rows),
        )
        self._units.make_room_for_nodes(rows)
        self._demand = self._draw_up()

    def _meet(self, task: Task) -> None:
        occupancy = self._occupancy
        occupancy.tasks[task.id] = task
        for other in task.separate_from:
            self._units.strike(other)
            for one, two in ((task.id, other), (other, task.id)):
                known = occupancy.separated.get(one, ())
                if two not in known:
                    occupancy.separated[one] = tuple(sorted((*known, two)))

    def _enlist(self, task: Task, slot: Slot) -> None:
        """Lets compiled code move the task, if it is one that it can place."""
        is_plain = task.replicas == 1 and not self._occupancy.separated.get(task.id)
        if is_plain and task.preemptible and task.request.gpus <= 1:
            n, devices = self._board.place_of(slot)
            device = int(devices[0]) if len(devices) else NO_UNIT
            self._units.enlist(task.id, self._board.shape_of(task), n, device)

    def _place(self, task: Task, shape: int) -> Slot | None:
        board = self._board
        n, device = online.find(board.cluster, board.shapes, self._demand, self._known, shape)
        if n == NO_NODE:
            return None
        devices = np.full(task.request.gpus, device, dtype=np.int64)
        if task.request.gpus > 1:
            online.choose_devices(board.cluster, board.shapes, shape, n, devices)
        online.count_in(board.cluster, board.shapes, self._demand, shape, n, devices, 1)
        slot = board.slot(n, devices.tolist())
        self._occupancy.add(task, slot)
        return slot

    def _make_room(self, shape: int, max_moves: int) -> list[Move]:
        board, moves = self._board, np.empty((2, 5), dtype=np.int64)
        count = ejection.make_room(
            board.cluster,
            board.shapes,
            self._demand,
            self._known,
            self._units.arrays,
            shape,
            min(max_moves, 2),
            moves,
        )
        return [self._record(row) for row in moves[:count].tolist()]

    def _tidy(self, max_moves: int) -> list[Move]:
        board, moves = self._board, np.empty((max_moves, 5), dtype=np.int64)
        count = ejection.tidy(
            board.cluster,
            board.shapes,
            self._demand,
            self._known,
            self._units.arrays,
            LOOKED_AT,
            max_moves,
            LEAST_GAIN,
            moves,
        )
        return [self._record(row) for row in moves[:count].tolist()]

    def _record(self, row: list[int]) -> Move:
        """Follows a move that compiled code has made."""
        unit, n, device, to, device_there = row
        name = self._units.task(unit)
        task = self._occupancy.tasks[name]
        has_gpu = task.request.gpus > 0
        before = self._board.slot(n, [device] if has_gpu else [])
        after = self._board.slot(to, [device_there] if has_gpu else [])
        self._occupancy.remove(task, before)
        self._occupancy.add(task, after)
        return Move(task=name, before=before, after=after)

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

    def _shape_of(self, task: Task) -> int:
        shape = self._board.shape_of(task)
        row = with_room(self._known.row, shape + 1, NO_ROW)
        if row is not self._known.row:
            self._known = self._known._replace(row=row)
        return shape

    def _draw_up(self) -> Demand:
        shapes = self._board.shapes
        demand = self._expectation.demand(shapes.node_accepts, shapes.device_accepts)
        online.assess_all(self._board.cluster, demand)
        return demand


def _nothing_known(nodes: int) -> Known:
    rows = max(16, min(MOST_KNOWN, MOST_KNOWN_NODES // max(nodes, 1)))
    return Known(
        version=np.zeros((rows, nodes), dtype=np.int64),
        score=np.zeros((rows, nodes)),
        device=np.zeros((rows, nodes), dtype=np.int64),
        row=np.full(FIRST_ROWS, NO_ROW, dtype=np.int64),
        shape=np.full(rows, NO_ROW, dtype=np.int64),
        asked=np.zeros(rows + 1, dtype=np.int64),
    )
