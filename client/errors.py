"""What the SDK raises and the command prints: one base, a stable code, and what to do about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pydantic import ValidationError

_SHOWN = 200

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_INVALID_INPUT = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with an input: where, what was given, and why it's refused."""

    path: str
    value: Any
    reason: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            path=str(data.get("path", "$")),
            value=data.get("value"),
            reason=str(data.get("reason", "")),
        )

    def __str__(self) -> str:
        value = " ".join(repr(self.value).split())
        shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return f"{self.path}: {shown}: {self.reason}"


class StowplanError(Exception):
    """The base of all errors of the SDK. ``code`` is stable, ``detail`` is for a person."""

    code = "failed"
    exit_code = EXIT_FAILED

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.status = status
        """The HTTP status, when it was the service that refused."""
        self.faults = tuple(faults)


class NotReachableError(StowplanError):
    """Nobody answered. The detail names the server and says what to do."""

    code = "not_reachable"


class InvalidInputError(StowplanError):
    """The input is at fault; ``faults`` names every fault found."""

    code = "invalid_input"
    exit_code = EXIT_INVALID_INPUT


class UnauthorizedError(StowplanError):
    """No token, or not one that the service knows."""

    code = "unauthorized"


class NotFoundError(StowplanError):
    """There is no such task, node or plan."""

    code = "not_found"


class ConflictError(StowplanError):
    """The thing's present state doesn't allow it."""

    code = "conflict"


_BY_STATUS: dict[int, type[StowplanError]] = {
    400: InvalidInputError,
    401: UnauthorizedError,
    403: UnauthorizedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidInputError,
    422: InvalidInputError,
}


def refusal(status: int, problem: Any, *, fallback: str) -> StowplanError:
    """The error for an answer of 4xx or 5xx. ``problem`` is its problem+json body, or anything
    else.
    """
    kind = _BY_STATUS.get(status, StowplanError)
    if not isinstance(problem, dict):
        return kind(f"the server answered {status}: {fallback}", status=status)
    return kind(
        str(problem.get("detail") or problem.get("title") or fallback),
        code=problem.get("code"),
        status=status,
        faults=[Fault.from_json(fault) for fault in problem.get("faults") or ()],
    )


def faults_of(error: "ValidationError") -> tuple[Fault, ...]:
    """What pydantic found wrong with a form, in the words that the service uses."""
    return tuple(
        Fault(path=_path(part["loc"]), value=part["input"], reason=part["msg"])
        for part in error.errors(include_url=False)
    )


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "$"
