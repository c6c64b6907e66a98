"""How far allocations' programs have come, as their nodes last said. In memory: every report says
it again, and a price that is asked for before the first one is reckoned without it.

A node may speak of its own allocations only. Which those are is known from the last report of it
that was recorded: one that isn't recorded repeats its allocations.
"""

from collections.abc import Iterable, Sequence

from protocol.report import Progress


class ProgressBoard:
    """By allocation, of each node what its latest report said and nothing older."""

    def __init__(self) -> None:
        self._of: dict[str, Progress] = {}
        self._told_by: dict[int, tuple[str, ...]] = {}
        self._own: dict[int, frozenset[str]] = {}

    def own(self, node_id: int, allocations: Iterable[str]) -> None:
        """Of these a node may speak from now on."""
        self._own[node_id] = frozenset(allocations)

    def note(self, node_id: int, progress: Sequence[Progress]) -> None:
        """Take over a node's report whole: what it doesn't mention any more is gone."""
        before = self._told_by.get(node_id)
        if not progress and not before:
            return
        own = self._own.get(node_id, frozenset())
        told = {one.id: one for one in progress if one.id in own}
        for allocation in before or ():
            if allocation not in told:
                self._of.pop(allocation, None)
        self._told_by[node_id] = tuple(told)
        self._of.update(told)

    def forget(self, node_id: int) -> None:
        """The node is gone, and what it said with it."""
        self.note(node_id, ())
        self._told_by.pop(node_id, None)
        self._own.pop(node_id, None)

    def of(self, allocation: str, generation: int) -> Progress | None:
        found = self._of.get(allocation)
        return found if found is not None and found.generation == generation else None
