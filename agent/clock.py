"""The agent's clocks."""

import time
from collections.abc import Callable

from agent.events import Moment


def boot_seconds() -> float:
    """CLOCK_BOOTTIME goes on while the machine is suspended: a lease runs out then, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """One run of an agent on two clocks.

    People's clock is read once and goes on by the boot clock: when somebody sets the machine's
    clock by an hour, measurements neither repeat an hour nor leave one out. How far it is off is
    for the service to find out, who sees when a report arrives.
    """

    def __init__(
        self,
        *,
        boot: Callable[[], float] = boot_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._boot = boot
        self._wall_at_boot_seconds = wall() - boot()

    def now(self) -> Moment:
        seconds = self._boot()
        wall_ms = int((self._wall_at_boot_seconds + seconds) * 1000)
        return Moment(boot_seconds=seconds, wall_ms=wall_ms)

    def wall_seconds(self) -> float:
        return self._wall_at_boot_seconds + self._boot()
