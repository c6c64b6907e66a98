"""The order among a project's tasks, and how early and late it lets each of them be."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from solver.reading import integer, items, text


def whole(task: object, name: str, absent: int = 0) -> int:
    """The whole number there; 0 for one below, or of the wrong shape."""
    return max(0, integer(task, name, absent) or 0)


@dataclass(frozen=True, slots=True)
class Network:
    """The order among tasks by their positions in the list; unknown ids are left out."""

    names: tuple[str, ...]
    before: tuple[tuple[int, ...], ...]
    behind: tuple[tuple[int, ...], ...]
    durations: tuple[int, ...]
    releases: tuple[int, ...]
    deadlines: tuple[int | None, ...]
    order: tuple[int, ...] = field(default=())
    """Each after those that it waits for; tasks on a ring, and behind one, are missing."""

    @classmethod
    def of(cls, tasks: Sequence[object]) -> "Network":
        """Of two tasks with one id, the first is the one that others wait for."""
        names = tuple(text(task, "id") or "" for task in tasks)
        position = {name: i for i, name in reversed(list(enumerate(names)))}
        before = tuple(
            tuple(
                dict.fromkeys(
                    position[other]
                    for other in items(task, "after")
                    if isinstance(other, str) and other in position
                )
            )
            for task in tasks
        )
        behind: list[list[int]] = [[] for _ in tasks]
        for i, others in enumerate(before):
            for other in others:
                behind[other].append(i)
        return cls(
            names=names,
            before=before,
            behind=tuple(map(tuple, behind)),
            durations=tuple(whole(task, "duration") for task in tasks),
            releases=tuple(whole(task, "release") for task in tasks),
            deadlines=tuple(integer(task, "deadline", None) for task in tasks),
            order=order_of(before, behind),
        )

    def heads(self) -> list[int]:
        """The earliest start of each task by releases and durations (docs/model.md, S6)."""
        heads = list(self.releases)
        for i in self.order:
            for j in self.before[i]:
                heads[i] = max(heads[i], heads[j] + self.durations[j])
        return heads

    def dues(self) -> list[int | None]:
        """The latest end of each task by the deadlines of it and of those behind it."""
        dues = list(self.deadlines)
        for i in reversed(self.order):
            for j in self.behind[i]:
                due = dues[j]
                if due is not None:
                    own = dues[i]
                    latest = due - self.durations[j]
                    dues[i] = latest if own is None else min(own, latest)
        return dues


def order_of(before: Sequence[Sequence[int]], behind: Sequence[Sequence[int]]) -> tuple[int, ...]:
    waits = [len(others) for others in before]
    order = [i for i, count in enumerate(waits) if count == 0]
    for i in order:  # grows on the way
        for j in behind[i]:
            waits[j] -= 1
            if waits[j] == 0:
                order.append(j)
    return tuple(order)
