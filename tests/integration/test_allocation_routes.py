"""``POST /api/v1/allocate`` and ``/lp``: the command's documents over HTTP, faults as 422."""

import json
from typing import Any

import pytest

from tests.service import Service

JOBS: dict[str, Any] = {
    "version": 1,
    "accelerators": {"v100": 1, "k80": 1},
    "jobs": [
        {"id": "a", "gpus": 1, "weight": 1, "steps": 100, "throughput": {"v100": 2.0, "k80": 1}},
        {"id": "b", "gpus": 1, "weight": 1, "steps": 100, "throughput": {"v100": 4.0, "k80": 1}},
    ],
}


async def ask(service: Service, path: str, document: Any) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await service.user.post(f"/api/v1/{path}", content=body)


@pytest.mark.parametrize(
    "policy",
    [
        "max_min_fairness", "finish_time_fairness", "makespan", "max_throughput", "min_cost",
        "water_filling",
    ],
)  # fmt: skip
async def test_each_policy_answers_in_the_contracts_form(
    sqlite_service: Service, policy: str
) -> None:
    answer = await ask(sqlite_service, f"allocate?policy={policy}", JOBS)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["policy"], found["status"]) == (policy, "optimal")
    assert set(found["shares"]) == {"a", "b"}
    assert set(found["prices"]) == {"v100", "k80"}
    assert {"objective", "seconds", "unit"} <= set(found)


async def test_the_policy_may_stand_in_the_document(sqlite_service: Service) -> None:
    answer = await ask(sqlite_service, "allocate", {**JOBS, "policy": "makespan"})
    assert answer.json()["policy"] == "makespan"
    answer = await ask(sqlite_service, "allocate?policy=makespan", {**JOBS, "policy": "makespan"})
    assert answer.status_code == 200
    answer = await ask(sqlite_service, "allocate?policy=min_cost", {**JOBS, "policy": "makespan"})
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == ["query.policy"]
    assert (await ask(sqlite_service, "allocate", JOBS)).json()["policy"] == "max_min_fairness"


async def test_every_fault_is_named_that_of_the_query_too(sqlite_service: Service) -> None:
    broken = {**JOBS, "jobs": [{"id": "a", "throughput": {"v100": -1}, "gpus": 0}]}
    answer = await ask(sqlite_service, "allocate?policy=%0Aluck", broken)
    assert answer.status_code == 422
    paths = {fault["path"] for fault in answer.json()["faults"]}
    assert {"query.policy", "jobs[0].throughput.v100", "jobs[0].gpus"} <= paths


async def test_deadlines_that_can_not_be_kept_are_faults(sqlite_service: Service) -> None:
    jobs = [{**job, "deadline_seconds": 1} for job in JOBS["jobs"]]
    answer = await ask(sqlite_service, "allocate?policy=min_cost", {**JOBS, "jobs": jobs})
    assert answer.status_code == 422
    paths = [fault["path"] for fault in answer.json()["faults"]]
    assert paths == ["jobs[0].deadline_seconds", "jobs[1].deadline_seconds"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b'{"version": NaN}', b"null"])
@pytest.mark.parametrize("path", ["allocate", "lp"])
async def test_what_is_no_document_is_refused(
    sqlite_service: Service, path: str, body: bytes
) -> None:
    answer = await ask(sqlite_service, path, body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_program_is_solved_with_its_duals(sqlite_service: Service) -> None:
    rows = [[2, 1, 3], [1, 1, 2], [0, 1, 2]]
    answer = await ask(sqlite_service, "lp", {"c": [-1, -1, -1], "A": rows, "b": [2, 1, 4]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["objective"] == pytest.approx(-1.0)
    assert found["duals"]["b"] == pytest.approx([0.0, -1.0, 0.0])
    triplets = {"rows": [0, 0], "columns": [0, 1], "values": [1, 1]}
    answer = await ask(
        sqlite_service,
        "lp",
        {"c": [-2, -1], "A": triplets, "b": [1.5], "integrality": [True, False]},
    )
    assert answer.json()["x"] == pytest.approx([1.0, 0.5])


async def test_a_programs_conflict_is_an_answer_and_its_ray_a_fault(
    sqlite_service: Service,
) -> None:
    answer = await ask(sqlite_service, "lp", {"c": [1], "A": [[1], [-1]], "b": [1, -2]})
    assert answer.status_code == 200
    assert answer.json()["status"] == "infeasible"
    assert answer.json()["conflict"] == ["A[0]", "A[1]"]
    answer = await ask(sqlite_service, "lp", {"c": [-1], "A": [[-1]], "b": [1]})
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["faults"]] == ["c[0]"]
