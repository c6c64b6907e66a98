"""JSON in, dataclasses out: shape and meaning are reported in one go, and nothing ends in a
traceback.
"""

import json

import pytest

from app.planning.documents import answer_bytes, forms, parse_plan, parse_problem, schema
from solver.errors import InvalidPlan, InvalidProblem
from solver.pipeline import solve
from solver.problem import Problem
from solver.replay import canonical_bytes, digest
from tests.problems import random_problem

NO_PROBLEM = [
    b"",
    b"{",
    b"[]",
    b"3",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"version": ' + b"9" * 5000 + b"}",
    b'{"version": NaN}',
    b'{"version": -Infinity}',
    b'{"version": 1, "nodes": [{"id": "\\ud800"}], "tasks": []}',
    b"{}",
]


def faults_of(data: bytes) -> dict[str, str]:
    with pytest.raises(InvalidProblem) as caught:
        parse_problem(data)
    return {fault.path: fault.reason for fault in caught.value.faults}


@pytest.mark.parametrize("data", NO_PROBLEM, ids=lambda data: str(data[:12]))
def test_what_is_no_problem_at_all_is_a_fault(data: bytes) -> None:
    assert faults_of(data)


@pytest.mark.parametrize("data", NO_PROBLEM, ids=lambda data: str(data[:12]))
def test_what_is_no_plan_at_all_is_a_fault(data: bytes) -> None:
    with pytest.raises(InvalidPlan) as caught:
        parse_plan(data)
    assert caught.value.faults


def test_shape_and_meaning_are_reported_together() -> None:
    document = {
        "version": 2,
        "nodes": [{"id": "n", "cpu_milli": 1.5, "gold": 1}, {"id": "n"}],
        "tasks": [
            {"id": "t", "queue": "no", "request": {"gpus": 2, "gpu_milli": 460, "cpu_milli": -1}},
            {"id": "u", "replicas": "two", "placed": [{"node": "lost"}]},
            7,
        ],
        "objective": ["fast"],
        "queues": [{"id": "a", "parent": "b"}, {"id": "b", "parent": "a"}],
    }
    assert set(faults_of(json.dumps(document).encode())) == {
        "version",
        "nodes[0].cpu_milli",
        "nodes[0].gold",
        "nodes[1].id",
        "tasks[0].queue",
        "tasks[0].request.gpu_milli",
        "tasks[0].request.cpu_milli",
        "tasks[1].replicas",
        "tasks[1].placed[0].node",
        "tasks[2]",
        "objective[0]",
        "queues[0].parent",
        "queues[1].parent",
    }


def test_a_key_given_twice_is_a_fault_with_its_path() -> None:
    data = b'{"version": 1, "nodes": [{"id": "n", "id": "m"}], "tasks": [], "tasks": []}'
    assert set(faults_of(data)) == {"tasks", "nodes[0].id"}


def test_values_in_faults_are_short() -> None:
    long = json.dumps({"version": "x" * 10_000, "nodes": list(range(9999)), "tasks": 10**4000})
    with pytest.raises(InvalidProblem) as caught:
        parse_problem(long.encode())
    assert max(len(fault.value) for fault in caught.value.faults) < 100


def test_ten_thousand_faults_are_counted_not_listed() -> None:
    nodes = [{"id": f"n{i}", "cpu_milli": -1} for i in range(10_000)]
    document = json.dumps({"version": 1, "nodes": nodes, "tasks": []}).encode()
    with pytest.raises(InvalidProblem) as caught:
        parse_problem(document)
    assert len(caught.value.faults) == 1001
    assert caught.value.faults[-1].value == "9000 more"


@pytest.mark.parametrize("seed", range(10))
def test_a_problem_survives_the_way_through_its_canonical_bytes(seed: int) -> None:
    problem = random_problem(seed)
    data = canonical_bytes(problem)
    assert parse_problem(data) == problem
    assert canonical_bytes(parse_problem(data)) == data
    assert digest(parse_problem(data)) == digest(problem)


def test_a_plan_survives_the_way_through_its_bytes() -> None:
    plan = solve(random_problem(4, nodes=3, devices=2, tasks=6))
    assert parse_plan(answer_bytes(plan)) == plan


def test_fields_left_out_are_the_defaults() -> None:
    problem = parse_problem(b'{"version": 1, "nodes": [], "tasks": [{"id": "t"}]}')
    assert isinstance(problem, Problem)
    assert problem.tasks[0].request.gpu_milli == 1000
    assert problem.tasks[0].fewest == 1
    assert problem.budget.seconds == 5


def test_every_form_has_a_schema_that_refuses_unknown_fields() -> None:
    for name in forms():
        definition = schema(name)
        assert definition["additionalProperties"] is False
        assert definition["$defs"]
    with pytest.raises(KeyError):
        schema("poem")
