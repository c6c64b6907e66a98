"""What would let a waiting task run, each change tried on the final state, the cheapest first."""

from solver.explain import changing
from solver.explain.fitting import Ask
from solver.explain.freeing import set_of_ends, single_ends
from solver.explain.rivals import MOST_MOVED, Rivals
from solver.explain.room import Room
from solver.plan import Fix, FixKind

MOST_FREED = 3
"""So many running tasks are named whose end alone would make room, the cheapest first."""
_ORDER = {kind: place for place, kind in enumerate(FixKind)}


class Fixing:
    """Finds fixes in one final state."""

    def __init__(self, room: Room, rivals: Rivals) -> None:
        self.room = room
        self.rivals = rivals

    def of(self, ask: Ask) -> tuple[Fix, ...]:
        """Changes after each of which alone the task, which doesn't fit, would fit beside all that
        runs.
        """
        room = self.room
        found = [
            *changing.raising_limit(room, ask),
            *changing.shrinking(room, ask),
            *self._stopping(ask),
        ]
        if not room.short_limits(ask.task, ask.task.fewest):
            found += changing.relaxing(room, ask)
            found += changing.uncordoning(room, ask)
            found += changing.adding_node(room, ask)
        return tuple(sorted(found, key=lambda fix: (fix.cost, _ORDER[fix.kind])))

    def _stopping(self, ask: Ask) -> list[Fix]:
        """Running tasks that could move, or end."""
        room, costs = self.room, self.rivals.costs
        tasks, nodes = room.running.tasks, room.ground.nodes
        ends = single_ends(room, ask, costs)
        found = []
        moved = self.rivals.moves.for_task(ask, costs, ends, most=MOST_MOVED)
        if moved:
            where = " and ".join(f"{tasks[t].id} moves to {nodes[n].id}" for t, n in moved)
            found.append(
                Fix(
                    kind=FixKind.MOVE,
                    text=f"it fits once task {where}",
                    tasks=tuple(tasks[t].id for t, _ in moved),
                    nodes=tuple(nodes[n].id for _, n in moved),
                    cost=sum(int(costs.weight[t]) for t, _ in moved),
                )
            )
        for t in ends[:MOST_FREED]:
            text = f"it fits once task {tasks[t].id} ends"
            cost = int(costs.weight[t])
            found.append(Fix(kind=FixKind.FREE, text=text, task=tasks[t].id, cost=cost))
        if not ends:
            together = set_of_ends(room, ask, costs)
            if together:
                names = [tasks[t].id for t in together]
                text = f"it fits once tasks {', '.join(names[:-1])} and {names[-1]} have ended"
                cost = sum(int(costs.weight[t]) for t in together)
                found.append(Fix(kind=FixKind.FREE_SET, text=text, tasks=tuple(names), cost=cost))
        return found
