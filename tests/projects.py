"""Small projects for tests, and their best schedules by trying all."""

import random
from itertools import permutations

from solver.scheduling.projects.check import value
from solver.scheduling.projects.project import Budget, Project, Task

QUICK = Budget(seconds=2.0, deterministic=True)


def project(*tasks: Task, resources: dict[str, int] | None = None, **more: object) -> Project:
    held = {"gpu": 4} if resources is None else resources
    return Project(version=1, resources=held, tasks=tasks, **{"budget": QUICK, **more})  # pyright: ignore[reportArgumentType]


def task(name: str, duration: int = 1, gpu: int = 0, **more: object) -> Task:
    return Task(id=name, duration=duration, request={"gpu": gpu}, **more)  # pyright: ignore[reportArgumentType]


def random_project(seed: int, *, tasks: int, **more: object) -> Project:
    """A project of the kind that PSPLIB has, with releases here and there."""
    draw = random.Random(seed)
    resources = {"gpu": 4, "cpu": 6}
    found = []
    for i in range(tasks):
        earlier = draw.sample(range(i), min(i, draw.randint(0, 2)))
        found.append(
            Task(
                id=f"t{i}",
                duration=draw.randint(0, 5),
                request={name: draw.randint(0, most - 1) for name, most in resources.items()},
                after=tuple(f"t{j}" for j in earlier),
                release=draw.choice((0, 0, 0, 4)),
                weight=draw.randint(0, 3),
            )
        )
    draw.shuffle(found)
    return project(*found, resources=resources, **more)


def best_value(asked: Project) -> int | None:
    """The least value of any schedule; None where no one meets the deadlines.

    Some order of the tasks, each started as early as those ahead of it let it, gives a best
    schedule: both objectives only grow with the ends (Kolisch, EJOR 90, 1996).
    """
    best = None
    for order in permutations(asked.tasks):
        starts = _in_order(asked, order)
        if starts is not None:
            found = value(asked, starts)
            best = found if best is None else min(best, found)
    return best


def _in_order(asked: Project, order: tuple[Task, ...]) -> dict[str, int] | None:
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    held: dict[tuple[str, int], int] = {}
    for item in order:
        if not all(other in ends for other in item.after):
            return None
        start = max([item.release, *(ends[other] for other in item.after)])
        while any(
            held.get((name, moment), 0) + amount > asked.resources[name]
            for name, amount in item.request.items()
            for moment in range(start, start + item.duration)
        ):
            start += 1
        starts[item.id], ends[item.id] = start, start + item.duration
        if item.deadline is not None and ends[item.id] > item.deadline:
            return None
        for name, amount in item.request.items():
            for moment in range(start, start + item.duration):
                held[name, moment] = held.get((name, moment), 0) + amount
    return starts
