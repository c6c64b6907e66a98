"""One term at a time: what is held stays, bounds are bounds, and building stops when time is up."""

import itertools
from dataclasses import replace

import pytest

from solver.cpsat.layout import lay_out
from solver.cpsat.model import TermModel, evaluate
from solver.cpsat.search import ExactModel
from solver.deadline import Deadline, OutOfTime
from solver.greedy import place_quickly
from solver.problem import Budget, Device, Node, Problem, Request, Task
from tests.problems import random_problem

DETERMINISTIC = Budget(deterministic=True)


def model_of(problem: Problem) -> TermModel:
    layout = lay_out(problem, 20_000)
    assert layout is not None
    return TermModel(layout, DETERMINISTIC, Deadline(DETERMINISTIC, None))


def shares(*milli: int) -> tuple[Task, ...]:
    return tuple(
        Task(id=f"s{i}", request=Request(cpu_milli=1, gpus=1, gpu_milli=size))
        for i, size in enumerate(milli)
    )


def cluster(nodes: int, cpu_milli: int = 9000) -> tuple[Node, ...]:
    devices = (Device(id="0"), Device(id="1"))
    return tuple(Node(id=f"n{i}", cpu_milli=cpu_milli, devices=devices) for i in range(nodes))


def test_fragmentation_is_the_same_in_steps_of_a_device() -> None:
    problem = Problem(
        version=1,
        nodes=cluster(2),
        tasks=(*shares(600, 600, 300, 250), Task(id="cpu", request=Request(cpu_milli=1))),
        objective=("placed", "fragmentation"),
    )
    model = model_of(problem)
    placed, fragmentation = model.terms
    values = model.complete(place_quickly(problem))
    assert values is not None
    model.hold(placed, evaluate(placed.expression, values), is_best=True)
    found = model.improve(fragmentation, values, 5.0)
    assert found.values is not None
    assert found.bound == evaluate(fragmentation.expression, found.values) == 250


def test_what_is_found_in_a_clone_can_be_gone_on_from() -> None:
    problem = Problem(
        version=1,
        nodes=cluster(2),
        tasks=shares(600, 600, 300, 250),
        objective=("placed", "fragmentation"),
    )
    model = model_of(problem)
    placed, fragmentation = model.terms
    model.hold(placed, 1750, is_best=True)
    followed = model.follow(fragmentation, [], 5.0)
    assert followed is not None
    assert model.improve(fragmentation, followed, 5.0).bound == 250


def test_following_keeps_within_the_sums_and_leaves_the_model_as_it_was() -> None:
    problem = Problem(version=1, nodes=cluster(1), tasks=shares(600, 600), objective=("placed",))
    model = model_of(problem)
    (placed,) = model.terms
    followed = model.follow(placed, [(model.variables.count[0], 1)], 5.0)
    assert followed is not None
    assert evaluate(placed.expression, followed) == 600
    found = model.improve(placed, followed, 5.0)
    assert found.bound == 1200


@pytest.mark.parametrize("seed", range(5))
def test_no_search_gives_a_bound_that_is_worse_than_what_it_found(seed: int) -> None:
    model = model_of(random_problem(seed, nodes=3, devices=4, tasks=8))
    for term in model.terms:
        found = model.improve(term, None, 5.0)
        assert found.values is not None
        assert found.bound == evaluate(term.expression, found.values)


def test_building_is_given_up_when_the_time_is_over() -> None:
    problem = random_problem(1)
    layout = lay_out(problem, 20_000)
    assert layout is not None
    budget = Budget(seconds=10)
    for ticks in range(1, 20):
        # Each look at the clock takes a second, so the time is over after a few of them.
        clock = itertools.count(step=1 + 10 // ticks)
        deadline = Deadline(budget, lambda clock=clock: float(next(clock)))
        with pytest.raises(OutOfTime):
            TermModel(layout, budget, deadline)
        late = Deadline(budget, lambda clock=clock: float(next(clock)))
        assert ExactModel(layout, budget, late).solve(place_quickly(problem), (0,) * 9) is None


def test_a_layout_is_given_up_when_the_time_is_over() -> None:
    problem = replace(random_problem(1), budget=Budget(seconds=3))
    clock = itertools.count()
    deadline = Deadline(problem.budget, lambda: float(next(clock)))
    assert lay_out(problem, 20_000, deadline) is None


def test_the_search_stops_at_the_bound_of_merged_nodes() -> None:
    """Ten equal nodes with two devices each, and CPU for one of these tasks only."""
    tasks = tuple(
        Task(id=f"t{i}", request=Request(cpu_milli=4, gpus=1, gpu_milli=700)) for i in range(30)
    )
    problem = Problem(version=1, nodes=cluster(10, cpu_milli=7), tasks=tasks, objective=("placed",))
    layout = lay_out(problem, 20_000)
    assert layout is not None
    search = ExactModel(layout, DETERMINISTIC, Deadline(DETERMINISTIC, None))
    outcome = search.solve({}, (30 * 700,))
    assert outcome is not None
    assert outcome.bounds == (7000,)
    assert len(outcome.answer) == 10
