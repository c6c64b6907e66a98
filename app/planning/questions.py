"""What the solver's process can be asked: of each kind of question how it's read and answered.

The modules that answer are imported with the first question of their kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

SOLVE = "solve"
ALLOCATE = "allocate"
SCHEDULE = "schedule"
LP = "lp"
TIME = "time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Names are ``module:function``."""

    sign: bytes
    """The first byte of the message that asks it."""
    parse: str
    """Of a function from bytes to a form; raises InvalidProblem with every fault."""
    answer: str
    """Of a function from the form, and a ``clock`` in seconds, to the answer's dataclass; raises
    InvalidProblem where only the search finds a fault."""
    load: str | None = None
    """Of a function of the form that loads what answering takes, before the deadline counts."""
    seconds: float = 5.0
    """How long it may take where the document doesn't say it in ``budget.seconds``."""

    def read(self, document: bytes) -> Any:
        return _named(self.parse)(document)

    def prepare(self, asked: Any) -> None:
        if self.load is not None:
            _named(self.load)(asked)

    def solve(self, asked: Any, clock: Callable[[], float]) -> Any:
        return _named(self.answer)(asked, clock=clock)


def _named(name: str) -> Callable[..., Any]:
    return resolve_name(name)


QUESTIONS = {
    SOLVE: Question(
        sign=b"S",
        parse="app.planning.documents:parse_problem",
        answer="solver.pipeline:solve",
        load="solver.pipeline:load",
    ),
    ALLOCATE: Question(
        sign=b"A",
        parse="app.planning.allocating:read",
        answer="app.planning.allocating:answer",
        seconds=30.0,
    ),
    LP: Question(
        sign=b"L",
        parse="app.planning.documents:parse_program",
        answer="solver.allocation.linear:solve",
    ),
    SCHEDULE: Question(
        sign=b"P",
        parse="app.planning.psplib:parse_project",
        answer="solver.scheduling.projects.pipeline:schedule",
        load="solver.scheduling.projects.pipeline:load",
    ),
    TIME: Question(
        sign=b"T",
        parse="app.planning.timing:parse_question",
        answer="solver.scheduling.timeplan.planning:time_plan",
        load="solver.scheduling.timeplan.planning:load",
        seconds=30.0,
    ),
}
BY_SIGN = {question.sign: question for question in QUESTIONS.values()}
