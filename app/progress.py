"""How far allocations' programs have come, as their nodes last said. In memory: every report says
it again, and a price that is asked for before the first one is reckoned without it.
"""

from collections.abc import Sequence

from protocol.report import Progress


class ProgressBoard:
    """By allocation, of each node what its latest report said and nothing older."""

    def __init__(self) -> None:
        self._of: dict[str, Progress] = {}
        self._told_by: dict[int, tuple[str, ...]] = {}

    def note(self, node_id: int, progress: Sequence[Progress]) -> None:
        """Take over a node's report whole: what it doesn't mention any more is gone."""
        told = tuple(one.id for one in progress)
        for allocation in self._told_by.get(node_id, ()):
            if allocation not in told:
                self._of.pop(allocation, None)
        self._told_by[node_id] = told
        for one in progress:
            self._of[one.id] = one

    def of(self, allocation: str, generation: int) -> Progress | None:
        found = self._of.get(allocation)
        return found if found is not None and found.generation == generation else None
