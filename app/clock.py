"""Time, passed in: nothing in the service reads a clock by itself."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people and rows, monotonic time for leases and deadlines."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


def milliseconds(moment: datetime) -> int:
    """Since 1970, as rows of measurements and reports have it."""
    return round(moment.timestamp() * 1000)


def moment(at_ms: int) -> datetime:
    """A time that a node told. Its clock may be far off: what can't be kept is pinned to what
    can."""
    return datetime.fromtimestamp(min(at_ms, 253_402_300_799_000) / 1000, UTC)


class SystemClock:
    """The machine's clocks. Leases count suspended time too, so that a resumed laptop holds
    none."""

    def now(self) -> datetime:
        # Whole milliseconds, as rows keep them: what is answered at once equals what is read later.
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
