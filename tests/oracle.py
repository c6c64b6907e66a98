"""Brute force over a tiny problem: every placement there is, judged by the specification alone."""

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product
from math import prod

from solver.check import slot_violations
from solver.problem import Problem, Slot, Task
from solver.score import score_slots

Answer = dict[str, tuple[Slot, ...]]


def choices_of(problem: Problem, task: Task) -> list[tuple[Slot, ...]]:
    """Every multiset of slots that a task's replicas could take, the empty one included."""
    slots = [
        Slot(node=node.id, devices=tuple(devices))
        for node in problem.nodes
        for devices in combinations((d.id for d in node.devices), task.request.gpus)
    ]
    return [
        tuple(chosen)
        for count in range(task.replicas + 1)
        for chosen in combinations_with_replacement(slots, count)
    ]


def size_of(problem: Problem) -> int:
    """How many placements brute force would look at."""
    return prod(len(choices_of(problem, task)) for task in problem.tasks)


def best_score(problem: Problem) -> tuple[int, ...]:
    """The lexicographically best objective over all placements that break no rule."""
    return max((score_of(problem, answer) for answer in _valid_answers(problem)), key=_better_first)


def score_of(problem: Problem, answer: Answer) -> tuple[int, ...]:
    """The objective's values; ``placed`` as it is, costs negated, so that more is always better."""
    return tuple(
        entry.value if entry.name == "placed" else -entry.value
        for entry in score_slots(problem, answer)
    )


def _better_first(score: tuple[int, ...]) -> tuple[int, ...]:
    return score


def _valid_answers(problem: Problem) -> Iterator[Answer]:
    choices = [choices_of(problem, task) for task in problem.tasks]
    for chosen in product(*choices):
        answer = {
            task.id: slots for task, slots in zip(problem.tasks, chosen, strict=True) if slots
        }
        if not slot_violations(problem, answer):
            yield answer
