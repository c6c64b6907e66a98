"""How much thinking is left, by whichever clock counts. The solver reads no clock of its own."""

from collections.abc import Callable

from solver.problem import Budget

Clock = Callable[[], float]
"""Seconds from any fixed moment, such as ``time.monotonic``."""


class OutOfTime(Exception):  # noqa: N818 - a signal, not an error
    """No time is left for what was being built; nothing has gone wrong."""


class Deadline:
    """The budget's seconds, counted down.

    In the deterministic preset they are the back end's deterministic seconds, which depend on the
    work done and on nothing else. Without a clock they are the back end's own wall time.
    """

    def __init__(self, budget: Budget, clock: Clock | None) -> None:
        self._clock = None if budget.deterministic else clock
        self._budget = budget
        self._charged = 0.0
        self._start = self._now()

    def _now(self) -> float:
        return 0.0 if self._clock is None else self._clock()

    def charge(self, *, wall_seconds: float, deterministic_seconds: float) -> None:
        """Counts one run of the back end."""
        if self._clock is None:
            exact = self._budget.deterministic
            self._charged += deterministic_seconds if exact else wall_seconds

    def spent(self) -> float:
        """Wall seconds since the start; 0.0 where no clock was given or none may show."""
        return self._now() - self._start

    def is_over(self, *, allowance_seconds: float) -> bool:
        """True once the budget is exceeded by this much, by the clock that was given."""
        return self.spent() > self._budget.seconds + allowance_seconds

    def left(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self._budget.seconds - self.spent() - self._charged)

    def enforce(self) -> None:
        """Raises :class:`OutOfTime` when no time is left: for the loops that build models."""
        if self.left() <= 0:
            raise OutOfTime
