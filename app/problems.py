"""Errors to HTTP: one form for all of them, ``application/problem+json`` (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as ConnectionsTakenError
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from app import log
from app.deps import path
from app.errors import Fault, OverloadedError, ServiceError, UnauthorizedError

MEDIA_TYPE = "application/problem+json"
_log = log.get("http")

PROBLEM_SCHEMA = {
    "type": "object",
    "title": "Problem",
    "description": (
        "What went wrong (RFC 9457). `code` is stable, `faults` lists all that is wrong."
    ),
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "value", "reason"],
                "properties": {
                    "path": {"type": "string"},
                    "value": {},
                    "reason": {"type": "string"},
                },
            },
        },
    },
}


def install(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StaleDataError, _changed_meanwhile)
    app.add_exception_handler(IntegrityError, _changed_meanwhile)
    app.add_exception_handler(OperationalError, _database_busy)
    app.add_exception_handler(ConnectionsTakenError, _database_busy)
    app.add_exception_handler(Exception, _bug)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    faults: tuple[Fault, ...] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    content: dict[str, Any] = {
        "type": f"urn:stowplan:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if faults:
        content["faults"] = [fault.as_json() for fault in faults]
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


async def _service_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this class
    headers = {}
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, OverloadedError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return problem(error.status, error.code, error.detail, faults=error.faults, headers=headers)


async def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    """A query, header or path that FastAPI refused."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    faults = tuple(
        Fault(path=path(tuple(part["loc"][1:])), value=part.get("input"), reason=part["msg"])
        for part in error.errors()
    )
    return problem(422, "invalid_input", f"{len(faults)} fault(s) in the request", faults=faults)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    code = HTTPStatus(error.status_code).name.lower()
    return problem(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))


async def _changed_meanwhile(_request: Request, _error: Exception) -> JSONResponse:
    return problem(
        409,
        "conflict",
        "somebody else changed the same thing at the same time: look again, then retry",
    )


async def _database_busy(request: Request, error: Exception) -> JSONResponse:
    _log.error("database_unavailable", path=request.url.path, error=str(error))
    return problem(
        503,
        "database_unavailable",
        "the database doesn't answer: retry",
        headers={"Retry-After": "2"},
    )


async def _bug(request: Request, error: Exception) -> JSONResponse:
    """Nothing of the traceback leaves the service; the log has all of it."""
    _log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(500, "internal_error", "a fault in the service: its log has the details")
