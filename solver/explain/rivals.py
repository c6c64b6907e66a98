"""Whether others are in the way: more urgent tasks, or ones that may not be moved any more."""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from solver.arrays import Flags, Ints
from solver.explain import fitting
from solver.explain.fitting import Ask
from solver.explain.freeing import MOVERS_TRIED, Costs, Moves, costs_of, set_of_ends, single_ends
from solver.explain.reclaim import Reclaiming
from solver.explain.room import Room
from solver.plan import Reason, ReasonCode
from solver.score import is_touched

MOST_LEVELS = 64
"""So many priority levels get a room of their own, the highest of those that wait."""
MOST_MOVED = 2


class Rivals:
    """The final state without those who are in the way, found once for each priority level."""

    def __init__(self, room: Room, ask_of: Callable[[int], Ask]) -> None:
        self.room = room
        self.moves = Moves(room, ask_of)
        self._without: dict[int, Room | None] = {}
        self._without_less_urgent: dict[int, Room | None] = {}
        self._held_by_higher: dict[int, int] = {}
        running = room.running
        self._runs: Flags = running.replicas > 0
        self._reclaiming = Reclaiming(running)

    @cached_property
    def costs(self) -> Costs:
        return costs_of(self.room.running)

    @cached_property
    def _priority(self) -> Ints:
        return np.array([task.priority for task in self.room.running.tasks], dtype=np.int64)

    @cached_property
    def _stays(self) -> Flags:
        """[T] running tasks that the plan leaves as they are, and that could have been touched."""
        running = self.room.running
        found = np.zeros(len(running.tasks), dtype=bool)
        for t in np.flatnonzero(self._runs).tolist():
            task = running.tasks[t]
            found[t] = task.preemptible and bool(task.placed) and not self._is_touched(t)
        return found

    def _is_touched(self, t: int) -> bool:
        return is_touched(self.room.running.tasks[t], self.room.running.slots_of(t))

    @cached_property
    def moves_left(self) -> int | None:
        """How many more tasks the plan could have touched; None for any number."""
        running = self.room.running
        most = running.problem.budget.max_moves
        if most is None:
            return None
        placed = (t for t, task in enumerate(running.tasks) if task.placed)
        return most - sum(self._is_touched(t) for t in placed)

    def reasons(self, ask: Ask) -> Iterator[Reason]:
        """For a task that doesn't fit into the final state."""
        task = ask.task
        higher = self._without_higher(task.priority)
        if higher is not None and fitting.fits(higher, ask):
            text = (
                f"the room that it needs is held by tasks of higher priority than {task.priority}"
            )
            nodes = self._nodes_of_higher(task.priority, higher)
            yield Reason(code=ReasonCode.LOWER_PRIORITY, text=text, nodes=nodes)
        if self.moves_left is not None and self.moves_left <= 0:
            lower = self._without_lower(task.priority)
            if (
                lower is not None
                and not self.room.short_limits(task, task.fewest)
                and fitting.gang_fits(lower, ask)
            ):
                yield self._exhausted("less urgent running tasks", lower.gone)

    def after_search(self, ask: Ask) -> Iterator[Reason]:
        """Whether moves are exhausted for a task that doesn't fit, where that takes a search."""
        if self.moves_left is None or not self._stays.any():
            return
        gives_way = self._who_would_give_way(ask, self.moves_left)
        if len(gives_way) > self.moves_left:
            gone = np.zeros(len(self._runs), dtype=bool)
            gone[gives_way] = True
            count = len(gives_way)
            yield self._exhausted(f"{count} running task{'s' * (count != 1)}", gone)

    def _exhausted(self, who: str, tasks: Flags) -> Reason:
        most = self.room.running.problem.budget.max_moves
        text = f"{who} would have to give way, and max_moves is {most}"
        return Reason(code=ReasonCode.MOVES_EXHAUSTED, text=text, nodes=self._nodes_of(tasks))

    def _nodes_of(self, tasks: Flags) -> int:
        running = self.room.running
        return int(np.count_nonzero(np.bincount(running.node[tasks[running.task]])))

    def _nodes_of_higher(self, priority: int, higher: Room) -> int:
        if priority not in self._held_by_higher:
            self._held_by_higher[priority] = self._nodes_of(higher.gone)
        return self._held_by_higher[priority]

    def _without_higher(self, priority: int) -> Room | None:
        if priority not in self._without:
            gone = np.flatnonzero(self._runs & (self._priority > priority))
            full = len(self._without) >= MOST_LEVELS
            self._without[priority] = self.room.without(gone) if len(gone) and not full else None
        return self._without[priority]

    def _without_lower(self, priority: int) -> Room | None:
        """The room without those that a task of this priority could have evicted for being so."""
        if priority not in self._without_less_urgent:
            gone = np.flatnonzero(self._stays & (self._priority < priority))
            full = len(self._without_less_urgent) >= MOST_LEVELS
            found = self.room.without(gone) if len(gone) and not full else None
            self._without_less_urgent[priority] = found
        return self._without_less_urgent[priority]

    def _who_would_give_way(self, ask: Ask, left: int) -> list[int]:
        """Running tasks that a plan with more moves could evict or move for this one: a set that it
        may take the place of, or one or two that fit elsewhere.
        """

        def may_go(*tasks: int) -> bool:
            return all(self._stays[t] for t in tasks) and self._reclaiming.may_evict(
                ask.task, tasks
            )

        most = len(self._stays)
        evicted = set_of_ends(self.room, ask, self.costs, eligible=may_go, most=most)
        if evicted and may_go(*evicted):
            return evicted
        ends = single_ends(self.room, ask, self.costs)
        for t in ends[:MOVERS_TRIED]:  # one that frees its place under a limit, too
            if may_go(t) and self._takes_the_place_of(ask, t):
                return [t]
        if ask.task.fewest > 1 or left >= MOST_MOVED:
            return []
        moved = self.moves.for_task(
            ask, self.costs, ends, most=MOST_MOVED, eligible=lambda t: bool(self._stays[t])
        )
        return [t for t, _ in moved]

    def _takes_the_place_of(self, ask: Ask, t: int) -> bool:
        """True when the task could grow on a node that the other leaves."""
        left = self.room.running.nodes_of(t)
        return bool(fitting.fits_one(self.room.without([t]), ask)[left].any())
