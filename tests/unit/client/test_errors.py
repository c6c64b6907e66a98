"""Answers of 4xx and 5xx become typed errors that keep code, detail and faults."""

import pytest

from client.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StowplanError,
    UnauthorizedError,
    refusal,
)


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, InvalidInputError, 2),
        (401, UnauthorizedError, 1),
        (403, UnauthorizedError, 1),
        (404, NotFoundError, 1),
        (409, ConflictError, 1),
        (413, InvalidInputError, 2),
        (422, InvalidInputError, 2),
        (500, StowplanError, 1),
        (418, StowplanError, 1),
    ],
)
def test_status_decides_the_kind_and_the_exit_code(
    status: int, kind: type[StowplanError], exit_code: int
) -> None:
    error = refusal(status, {"detail": "no", "code": "some_code"}, fallback="")
    assert type(error) is kind
    assert (error.exit_code, error.code, error.status) == (exit_code, "some_code", status)


def test_faults_of_the_answer_are_kept() -> None:
    fault = {"path": "gpus", "value": -1, "reason": "negative"}
    error = refusal(422, {"detail": "bad", "faults": [fault]}, fallback="")
    assert [str(fault) for fault in error.faults] == ["gpus: -1: negative"]


@pytest.mark.parametrize("body", [None, "<html>", [], 7])
def test_answer_that_is_no_problem_json_still_says_its_status(body: object) -> None:
    error = refusal(502, body, fallback="Bad Gateway")
    assert str(error) == "the server answered 502: Bad Gateway"
