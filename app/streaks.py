"""For how long something has been so, told by rows: unknown neither goes on nor ends it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

GAP_MS = 120_000
"""Rows further apart than this say nothing of the time between them: counting begins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """From the first to the last row of which ``value`` was known, and the same in all."""

    value: bool
    since_ms: int
    until_ms: int

    @property
    def seconds(self) -> float:
        return (self.until_ms - self.since_ms) / 1000

    def has_been(self, value: bool, seconds: float) -> bool:
        """Whether it has been so for at least so long."""
        return self.value is value and self.seconds >= seconds


def follow(streak: Streak | None, looks: Iterable[tuple[int, bool | None]]) -> Streak | None:
    """The streak after more rows, ``(taken_at_ms, value)`` in order of time; None before any is
    known."""
    for at_ms, value in looks:
        if value is None or (streak is not None and at_ms <= streak.until_ms):
            continue
        goes_on = streak is not None and streak.value is value and at_ms - streak.until_ms <= GAP_MS
        if streak is not None and goes_on:
            streak = replace(streak, until_ms=at_ms)
        else:
            streak = Streak(value=value, since_ms=at_ms, until_ms=at_ms)
    return streak


def only_after(streak: Streak | None, moment_ms: int) -> Streak | None:
    """What of a streak lies behind a moment: what was before doesn't count."""
    if streak is None or streak.until_ms <= moment_ms:
        return None
    return replace(streak, since_ms=max(streak.since_ms, moment_ms))
