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


class SystemClock:
    """The machine's clocks. Leases count suspended time too, so that a resumed laptop holds
    none."""

    def now(self) -> datetime:
        # Whole milliseconds, as rows keep them: what is answered at once equals what is read later.
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
