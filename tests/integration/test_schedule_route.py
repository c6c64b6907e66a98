"""``POST /api/v1/schedule``: the command's documents over HTTP, faults as 422."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service

TINY = (Path(__file__).parents[1] / "data" / "tiny.sm").read_bytes()
PATH = "/api/v1/schedule"
PROJECT: dict[str, Any] = {
    "version": 1,
    "resources": {"gpu": 1},
    "tasks": [
        {"id": "a", "duration": 3, "request": {"gpu": 1}, "weight": 1},
        {"id": "b", "duration": 2, "request": {"gpu": 1}, "weight": 9},
    ],
    "budget": {"seconds": 2},
}


async def test_a_project_is_answered_in_the_contracts_form(sqlite_service: Service) -> None:
    asked = {**PROJECT, "objective": "weighted_completion"}
    answer = await sqlite_service.user.post(PATH, json=asked)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["status"], found["makespan"], found["bound"]) == ("optimal", 5, 23)
    assert found["starts"] == {"a": 2, "b": 0}


async def test_the_text_of_a_psplib_file_is_taken_too(sqlite_service: Service) -> None:
    headers = {"content-type": "text/plain"}
    answer = await sqlite_service.user.post(PATH, content=TINY, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["makespan"] == 11


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"tasks": [{"id": "a", "duration": 3, "after": ["a"]}]}, "tasks[0].after"),
        ({"tasks": [{"id": "a", "duration": -3}]}, "tasks[0].duration"),
        ({"tasks": [{"id": "a", "duration": 3, "deadline": 2}]}, "tasks[0].deadline"),
        ({"budget": {"seconds": 1e5}}, "budget.seconds"),
    ],
)
async def test_faults_are_a_422_that_names_them(
    sqlite_service: Service, change: dict[str, Any], path: str
) -> None:
    answer = await sqlite_service.user.post(PATH, content=json.dumps(PROJECT | change).encode())
    assert answer.status_code == 422
    assert path in answer.text
