"""``POST /api/v1/solve``: the contract's problem in, its plan out, and every fault at once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service, running

EXAMPLE = Path(__file__).parents[2] / "examples" / "problems" / "contract.json"


async def solve(service: Service, problem: Any) -> Any:
    return await service.user.post("/api/v1/solve", content=json.dumps(problem).encode())


async def test_the_contracts_example_is_solved_to_the_optimum(sqlite_service: Service) -> None:
    answer = await sqlite_service.user.post("/api/v1/solve", content=EXAMPLE.read_bytes())
    assert answer.status_code == 200
    plan = answer.json()
    assert plan["status"] == "optimal"
    assert {term["gap"] for term in plan["objective"]} == {0.0}


async def test_every_fault_is_named_the_budgets_too(sqlite_service: Service) -> None:
    problem = {
        "version": 1,
        "nodes": [{"id": "a", "cpu_milli": -1}],
        "tasks": [{"id": "t", "separate_from": ["nobody"], "colour": 1}, {"id": "t"}],
        "objective": ["beauty"],
        "budget": {"seconds": 1e6},
    }
    answer = await solve(sqlite_service, problem)
    assert answer.status_code == 422
    paths = {fault["path"] for fault in answer.json()["faults"]}
    assert {
        "nodes[0].cpu_milli",
        "tasks[0].colour",
        "tasks[0].separate_from[0]",
        "tasks[1].id",
        "objective[0]",
        "budget.seconds",
    } <= paths


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"version": NaN}',
        b'{"a": 1e999}',
    ],
)
async def test_what_is_no_problem_at_all_is_a_422_with_a_reason(
    sqlite_service: Service, body: bytes
) -> None:
    answer = await sqlite_service.user.post("/api/v1/solve", content=body)
    assert answer.status_code == 422
    assert all(fault["reason"] for fault in answer.json()["faults"])


async def test_a_solver_that_overruns_is_killed_and_the_next_problem_is_solved(
    sqlite_service: Service,
) -> None:
    pool = sqlite_service.app.state.solvers
    [child] = pool._users
    await child.warm()
    child._process.kill()
    await child._process.wait()
    answer = await sqlite_service.user.post("/api/v1/solve", content=EXAMPLE.read_bytes())
    assert answer.status_code == 200


async def test_a_child_that_dies_at_work_is_a_clear_422(sqlite_service: Service) -> None:
    pool = sqlite_service.app.state.solvers
    [child] = pool._users
    await child.warm()
    child._process.send_signal(19)  # SIGSTOP: it will not answer this one
    asked = asyncio.create_task(
        sqlite_service.user.post("/api/v1/solve", content=EXAMPLE.read_bytes())
    )
    while not child._turn.locked():  # noqa: ASYNC110 - a lock tells nobody that it was taken
        await asyncio.sleep(0)
    child._process.kill()
    answer = await asked
    assert answer.status_code == 422
    assert answer.json()["code"] == "problem_too_large"
    again = await sqlite_service.user.post("/api/v1/solve", content=EXAMPLE.read_bytes())
    assert again.status_code == 200


async def test_more_problems_than_may_wait_are_told_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path / "home", solve_queue=0) as service:
        answer = await service.user.post("/api/v1/solve", content=EXAMPLE.read_bytes())
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
