"""Who answers the planning loop's questions."""

from typing import Protocol

from app.planning.questions import SOLVE


class Solver(Protocol):
    """The service's is a process of its own (:class:`app.planning.child.SolverProcess`)."""

    async def solve(self, problem: bytes, budget_seconds: float, question: str = SOLVE) -> bytes:
        """The answer's JSON. Raises a ServiceError when there is none."""
        ...
