"""Queues by what is above them. Pure: names in, names out."""

from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar

T = TypeVar("T", int, float)

Path = tuple[str, ...]
"""The names from the top down to a queue."""


class Tree:
    """By name, the queue above. One whose parent isn't there counts as at the top."""

    def __init__(self, parents: Mapping[str, str | None]) -> None:
        self.parents = parents

    def path(self, queue: str) -> Path:
        """From the top down to the queue. Of a ring each queue once."""
        names = [queue]
        above = self.parents.get(queue)
        while above is not None and above in self.parents and above not in names:
            names.append(above)
            above = self.parents[above]
        return tuple(reversed(names))

    @cached_property
    def paths(self) -> list[Path]:
        """Of all queues, in the order of the tree: what is above comes first, equals by name."""
        return sorted(self.path(queue) for queue in self.parents)

    def children(self, queue: str) -> list[str]:
        return sorted(name for name, parent in self.parents.items() if parent == queue)

    def height(self, queue: str) -> int:
        """How many levels the queue and what is below it have; 1 for one with nothing below."""
        own = len(self.path(queue))
        return max((len(path) for path in self.paths if queue in path), default=own) - own + 1

    def within(self, queue: str, above: str) -> bool:
        """Whether a queue is this one or below it."""
        return above in self.path(queue)

    def sums(self, own: Mapping[str, Mapping[str, T]]) -> dict[str, dict[str, T]]:
        """By queue and word, each queue's own quantities and those of the queues below it, added
        up."""
        total: dict[str, dict[str, T]] = {name: {} for name in {*self.parents, *own}}
        for queue, quantities in own.items():
            for name in self.path(queue):
                into = total[name]
                for word, quantity in quantities.items():
                    into[word] = into[word] + quantity if word in into else quantity
        return total
