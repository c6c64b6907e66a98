"""The specification: each rule is broken once and noticed."""

import pytest

from solver.scheduling.projects.check import makespan, value, violations
from solver.scheduling.projects.project import Objective
from tests.projects import project, task

PROJECT = project(
    task("a", 2, gpu=3, weight=5),
    task("b", 3, gpu=2, after=("a",)),
    task("c", 1, gpu=2, release=1, deadline=9),
    task("mark", 0, gpu=4, after=("a",)),
)
STARTS = {"a": 0, "b": 2, "c": 2, "mark": 2}


def test_a_schedule_breaks_nothing_and_is_worth_what_counting_says() -> None:
    assert violations(PROJECT, STARTS) == ()
    assert makespan(PROJECT, STARTS) == value(PROJECT, STARTS) == 5
    weighted = project(*PROJECT.tasks, objective=Objective.WEIGHTED_COMPLETION.value)
    assert value(weighted, STARTS) == 5 * 2 + 5 + 3 + 2


@pytest.mark.parametrize(
    ("change", "rule", "broken"),
    [
        ({"b": 1}, "S3", "b"),
        ({"mark": 1}, "S3", "mark"),
        ({"c": 0}, "S2", "c"),
        ({"c": 9}, "S2", "c"),
        ({"c": 1}, "S4", "c"),
        ({"c": 1.0}, "S1", "c"),
        ({"c": None}, "S1", "c"),
        ({"d": 0}, "S1", "d"),
    ],
)
def test_each_rule_that_is_broken_is_named(change: dict[str, int], rule: str, broken: str) -> None:
    found = violations(PROJECT, STARTS | change)
    assert (rule, broken) in [(violation.rule, violation.task) for violation in found]


def test_one_may_start_the_moment_another_ends() -> None:
    pair = project(task("a", 2, gpu=4), task("b", 2, gpu=4))
    assert violations(pair, {"a": 2, "b": 0}) == ()
    assert [violation.rule for violation in violations(pair, {"a": 1, "b": 0})] == ["S4"]
