"""What a project may say, and every fault of one that may not."""

import json
from typing import Any

import pytest

from app.planning.documents import parse
from solver.errors import InvalidProblem
from solver.scheduling.projects.project import Budget
from tests.projects import project, task


def faults(*tasks: object, **more: object) -> list[str]:
    with pytest.raises(InvalidProblem) as error:
        project(*tasks, **more)  # pyright: ignore[reportArgumentType]
    return [str(fault) for fault in error.value.faults]


def read(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidProblem) as error:
        parse("project", json.dumps(document).encode())
    return [fault.path for fault in error.value.faults]


def test_the_contracts_example_is_a_project() -> None:
    document = {
        "version": 1,
        "resources": {"gpu": 8},
        "tasks": [
            {"id": "z", "duration": 1},
            {"id": "a", "duration": 4, "request": {"gpu": 2}, "after": ["z"], "release": 0,
             "deadline": None, "weight": 1},
        ],
    }  # fmt: skip
    found = parse("project", json.dumps(document).encode())
    assert (found.tasks[1].after, found.objective, found.budget) == (("z",), "makespan", Budget())


def test_every_fault_is_told_at_once() -> None:
    document = {
        "version": 1,
        "resources": {"gpu": 4},
        "tasks": [
            {"id": "a", "duration": -1, "after": ["b", "x"]},
            {"id": "b", "duration": 1.5, "after": ["a", "a"], "request": {"gpu": 5, "tpu": 1}},
            {"id": "c", "duration": 1},
            {"id": "c", "duration": 1},
        ],
        "objective": "cost",
        "extra": 1,
    }
    assert sorted(read(document)) == [
        "extra", "objective", "tasks[0].after", "tasks[0].after[1]", "tasks[0].duration",
        "tasks[1].after[1]", "tasks[1].duration", "tasks[1].request.gpu",
        "tasks[1].request.tpu", "tasks[3].id",
    ]  # fmt: skip


def test_a_ring_is_named_by_its_members_and_those_behind_it_are_not() -> None:
    (ring,) = faults(
        task("a", after=("c",)),
        task("b", after=("a",)),
        task("c", after=("b",)),
        task("d", after=("c",)),
    )
    assert ring.startswith(
        'tasks[0].after: closes a ring of 3: "a" waits for "c" waits for "b" waits for "a"'
    )


def test_rings_apart_from_each_other_are_faults_each() -> None:
    tasks = [task(a, after=(b,)) for a, b in ("ab", "ba", "cd", "dc", "ee")]
    assert [fault.split(":")[0] for fault in faults(*tasks)] == [
        "tasks[0].after",
        "tasks[2].after",
        "tasks[4].after",
    ]


def test_a_deadline_before_the_end_of_the_longest_chain_names_the_chain() -> None:
    (late,) = faults(
        task("a", 4, release=2), task("b", 1), task("c", 3, after=("a", "b"), deadline=8)
    )
    assert 'ends at 9 at the earliest, by "a" -> "c"' in late


def test_an_overloaded_window_names_its_tasks() -> None:
    crowd = [task(name, 4, gpu=3, release=1, deadline=9) for name in "abc"]
    (late,) = faults(*crowd, task("free", 9, gpu=4), task("early", 1, gpu=4, deadline=1))
    assert 'with "a", "b", "c": between 1 and 9 they need 36 of "gpu", which has 32' in late


def test_a_window_that_is_full_is_not_overloaded() -> None:
    """36 of 36 units of work; only a search can tell that it's too much."""
    assert project(*(task(name, 4, gpu=3, deadline=9) for name in "abc")).tasks


def test_times_beyond_what_can_be_counted_are_refused() -> None:
    (large,) = faults(task("a", 2**52), task("b", 2**52, release=1))
    assert "coarser unit" in large
    (dear,) = faults(task("a", 2**40, weight=2**14), objective="weighted_completion")
    assert "scale them down" in dear


def test_a_budget_that_can_not_be_is_refused() -> None:
    asked = project(task("a"))
    with pytest.raises(InvalidProblem, match=r"budget\.seconds"):
        asked.with_budget(Budget(seconds=-1.0))
    with pytest.raises(InvalidProblem, match=r"budget\.seconds"):
        asked.with_budget(Budget(seconds=float("nan")))
