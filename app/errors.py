"""What goes wrong in the service: each error has a stable code and an HTTP status (RFC 9457)."""

from dataclasses import dataclass
from typing import Any

_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with an input: where, what was given, and why it's refused."""

    path: str
    value: Any
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "value": shorten(self.value), "reason": self.reason}


class ServiceError(Exception):
    """The base of all errors that a client is told about. The message says what, which id, what to
    do."""

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, *, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults


class InvalidInputError(ServiceError):
    status = 422
    code = "invalid_input"


class MalformedJsonError(ServiceError):
    status = 400
    code = "malformed_json"


class UnauthorizedError(ServiceError):
    status = 401
    code = "unauthorized"


class ForbiddenError(ServiceError):
    status = 403
    code = "forbidden"


class NotFoundError(ServiceError):
    status = 404
    code = "not_found"


class ConflictError(ServiceError):
    status = 409
    code = "conflict"


class UnsupportedVersionError(ServiceError):
    status = 426
    code = "unsupported_version"


class OverloadedError(ServiceError):
    """Try again later: ``retry_after_seconds`` says when."""

    status = 429
    code = "overloaded"

    def __init__(self, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


def shorten(value: Any) -> Any:
    """A value fit to be shown in an error: JSON-safe, at most a line long, never NaN."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= 2**53:
        return value
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
