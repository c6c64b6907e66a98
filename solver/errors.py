"""What the solver refuses, in words that name every fault."""

from dataclasses import dataclass

SHOWN_LENGTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with a document: where, what stands there, and why it can't be."""

    path: str
    """As in ``tasks[3].request.gpu_milli``; empty for the document itself."""
    value: str
    """The value found there, shortened."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'document'}: {self.reason} (found {self.value})"


class SolverError(Exception):
    """Base of everything that the solver raises on purpose."""

    code = "solver_error"


class InvalidProblem(SolverError):  # noqa: N818 - the name says what is invalid
    """The problem breaks its own rules.

    Not a ``ValueError``: pydantic would wrap one in its own error and hide the list of faults.
    """

    code = "invalid_problem"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults[:20]))
        self.faults = faults


class InvalidPlan(SolverError):  # noqa: N818 - as above
    """The document is no plan. What a plan says is judged by ``solver.check``, not here."""

    code = "invalid_plan"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults[:20]))
        self.faults = faults


def shorten(value: object) -> str:
    """The value as a reader would recognise it, never longer than a line."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            shown = value if len(value) <= SHOWN_LENGTH else value[: SHOWN_LENGTH - 3] + "..."
            return '"' + shown.encode("utf-8", "backslashreplace").decode() + '"'
        case int():
            return (
                str(value)
                if value.bit_length() < 256
                else f"an integer of {value.bit_length()} bits"
            )
        case float():
            return repr(value)
        case dict():
            return f"an object of {len(value)} fields"
        case list() | tuple():
            return f"a list of {len(value)}"
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return type(value).__name__
