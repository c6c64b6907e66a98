"""The agent's clocks."""

import time

from agent.events import Moment


def now() -> Moment:
    """CLOCK_BOOTTIME goes on while the machine is suspended: a lease runs out then, too."""
    return Moment(
        boot_seconds=time.clock_gettime(time.CLOCK_BOOTTIME), wall_ms=int(time.time() * 1000)
    )
