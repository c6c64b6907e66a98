"""A document of jobs is refused with every fault, and read where it makes sense."""

import json
from typing import Any

import pytest

from app.planning.allocating import asked
from solver.allocation.jobs import Policy
from solver.errors import InvalidProblem

JOB: dict[str, Any] = {"id": "a", "throughput": {"v100": 2.0}}


def faults_of(document: dict[str, Any], policy: str | None = None) -> set[str]:
    document = {"version": 1, "accelerators": {"v100": 4}, "jobs": [JOB], **document}
    with pytest.raises(InvalidProblem) as refused:
        asked(json.dumps(document).encode(), policy, path="--policy")
    return {fault.path for fault in refused.value.faults}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"gpus": 0}, "gpus"),
        ({"gpus": 5}, "gpus"),
        ({"gpus": 1.5}, "gpus"),
        ({"weight": 0}, "weight"),
        ({"weight": -1}, "weight"),
        ({"weight": 1e300}, "weight"),
        ({"steps": -5}, "steps"),
        ({"elapsed_seconds": -1}, "elapsed_seconds"),
        ({"deadline_seconds": 0, "steps": 1}, "deadline_seconds"),
        ({"deadline_seconds": 9}, "steps"),
        ({"throughput": {}}, "throughput"),
        ({"throughput": {"v100": 0}}, "throughput"),
        ({"throughput": {"v100": -1}}, "throughput.v100"),
        ({"throughput": {"h100": 1, "v100": 1}}, "throughput.h100"),
        ({"throughput": 7}, "throughput"),
        ({"colour": "red"}, "colour"),
        ({"entity": ""}, "entity"),
    ],
)
def test_a_jobs_fault_is_told_where_it_is(change: dict[str, Any], path: str) -> None:
    found = faults_of({"jobs": [{**JOB, **change}]})
    assert any(fault.startswith(f"jobs[0].{path}") for fault in found), found


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"accelerators": {}}, "accelerators"),
        ({"accelerators": {"v100": 0}}, "accelerators"),
        ({"accelerators": {"v100": -2}}, "accelerators.v100"),
        ({"accelerators": {"v100": 1.5}}, "accelerators.v100"),
        ({"jobs": [JOB, JOB]}, "jobs[1].id"),
        ({"cost_per_hour": {"v100": 0}}, "cost_per_hour.v100"),
        ({"cost_per_hour": {"tpu": 1}}, "cost_per_hour.tpu"),
        ({"entity_weights": {"nobody": 1}}, "entity_weights.nobody"),
        ({"policy": "random"}, "policy"),
        ({"version": 2}, "version"),
    ],
)
def test_a_documents_fault_is_told_where_it_is(change: dict[str, Any], path: str) -> None:
    assert path in faults_of(change)


def test_all_faults_are_told_at_once() -> None:
    jobs = [{**JOB, "gpus": -1, "weight": 0}, {**JOB, "throughput": {"tpu": "fast"}}]
    found = faults_of({"jobs": jobs, "policy": "luck"}, "random")
    assert {"jobs[0].gpus", "jobs[0].weight", "jobs[1].id", "policy", "--policy"} <= found
    assert any(path.startswith("jobs[1].throughput.tpu") for path in found)


def test_a_policy_says_what_it_misses() -> None:
    assert faults_of({}, "makespan") == {"jobs[0].steps"}
    assert faults_of({}, "finish_time_fairness") == {"jobs[0].steps"}
    two = {"accelerators": {"v100": 1, "k80": 1}, "cost_per_hour": {"v100": 1.0}}
    assert faults_of(two, "min_cost") == {"cost_per_hour.k80"}


def test_two_different_policies_are_a_fault_and_two_equal_ones_are_not() -> None:
    document = {"version": 1, "accelerators": {"v100": 4}, "jobs": [JOB], "policy": "makespan"}
    assert faults_of(document, "min_cost") == {"--policy"}
    document["policy"] = "max_throughput"
    same = asked(json.dumps(document).encode(), "max_throughput", path="--policy")
    assert same.policy is Policy.MAX_THROUGHPUT


def test_the_policy_is_max_min_fairness_where_nobody_names_one() -> None:
    document = {"version": 1, "accelerators": {"v100": 4}, "jobs": [JOB]}
    assert asked(json.dumps(document).encode(), None, path="").policy is Policy.MAX_MIN_FAIRNESS


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    document = json.dumps({"version": 1, "accelerators": {"v100": 4}, "jobs": [JOB]})
    with pytest.raises(InvalidProblem):
        asked(document.replace("2.0", number).encode(), None, path="")
