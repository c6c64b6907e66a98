"""The exact model stands where any valid answer does, whichever way it packs shares."""

from dataclasses import replace

import pytest

from solver.check import slot_violations
from solver.cpsat import layout
from solver.cpsat.assignment import answer_from
from solver.cpsat.layout import lay_out
from solver.cpsat.model import TermModel
from solver.deadline import Deadline
from solver.greedy import Answer, place_quickly
from solver.pipeline import solve
from solver.problem import Budget, Problem
from solver.score import score_slots, slots_before
from tests.problems import random_problem

DETERMINISTIC = Budget(deterministic=True)


def there_and_back(problem: Problem, answer: Answer) -> dict[str, object]:
    """The answer, loaded into the model and read out of it again."""
    found = lay_out(problem, 20_000)
    assert found is not None
    model = TermModel(found, DETERMINISTIC, Deadline(DETERMINISTIC, None))
    values = model.complete(answer)
    assert values is not None
    return answer_from(model.variables, lambda variable: values[variable.index])


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("most_fillings", [400, 0], ids=["fillings", "bins"])
def test_every_valid_answer_is_a_point_of_the_model(
    monkeypatch: pytest.MonkeyPatch, seed: int, most_fillings: int
) -> None:
    monkeypatch.setattr(layout, "MOST_FILLINGS", most_fillings)
    problem = random_problem(seed)
    for answer in (slots_before(problem), place_quickly(problem)):
        back = there_and_back(problem, answer)
        assert slot_violations(problem, back) == ()
        assert [v.value for v in score_slots(problem, back)][:3] == [
            v.value for v in score_slots(problem, answer)
        ][:3]


@pytest.mark.parametrize("seed", range(10))
def test_bins_and_fillings_prove_the_same_optimum(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    problem = random_problem(seed, nodes=3, devices=4, tasks=10)
    problem = replace(problem, budget=DETERMINISTIC)
    filled = solve(problem)
    monkeypatch.setattr(layout, "MOST_FILLINGS", 0)
    assert solve(problem).objective == filled.objective
    assert filled.status == "optimal"


def test_a_layout_that_is_too_large_is_not_built() -> None:
    assert lay_out(random_problem(0), 10) is None
