"""When a device is to take no new task: readings in, verdicts out.

Pure. A verdict of None is "unknown": it neither quarantines nor releases. Why each threshold is
what it is stands in docs/telemetry.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.streaks import Streak
from telemetry.xids import XidClass, classify, describe


class Code(StrEnum):
    """Which rule, or whose word, it is."""

    MANUAL = "manual"
    XID = "xid"
    ECC = "ecc"
    MEMORY_REPAIR = "memory_repair"
    THROTTLED = "throttled"
    SLOW = "slow"
    UNMANAGED = "unmanaged"
    UNRELEASED = "unreleased"
    """A task that is over left something on it: a process, or memory."""
    UNKILLABLE = "unkillable"
    """Processes of a task wait in the kernel and don't end, though they were killed."""

    @property
    def ended_by_rule(self) -> bool:
        """Whether what began it can be seen to be over; otherwise a person says so."""
        return self not in {Code.MANUAL, Code.ECC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule says of a device now, and why, in a sentence with numbers."""

    code: Code
    faulty: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """See the settings of the same names."""

    busy_percent: float
    throttled_seconds: float
    throttled_clear_seconds: float
    slow_seconds: float
    slow_ratio: float
    unmanaged_seconds: float


def xid_fault(code: int, message: str) -> str | None:
    """Why an Xid keeps tasks off the device; None for an application's own mistake."""
    if classify(code) is not XidClass.HARDWARE:
        return None
    said = describe(code)
    # The agent's words are the same, unless it has more to tell.
    return said if not message or message == said else f"{said}: {message}"


def ecc(count: float | None, *, acknowledged: float) -> Verdict | None:
    """Uncorrected memory errors since the driver was loaded, beyond those that a person has seen
    and let pass."""
    if count is None:
        return None
    fresh = count - acknowledged
    return Verdict(
        code=Code.ECC,
        faulty=fresh > 0,
        reason=f"{count:.0f} uncorrected memory error{'' if count == 1 else 's'} since the driver "
        f"was loaded, {max(fresh, 0):.0f} of them new",
    )


def memory_repair(
    pending: float | None,
    failed: float | None,
    *,
    acknowledged_pending: float = 0,
    acknowledged_failed: float = 0,
) -> Verdict | None:
    """Rows or pages of its memory wait for a reset to be taken out of use, or couldn't be.

    Clear only when nothing waits *and* nothing failed, acknowledged or not: a release by rule means
    that it is over.
    """
    new = [
        words
        for value, acknowledged, words in (
            (failed, acknowledged_failed, "repairing its memory has failed"),
            (pending, acknowledged_pending, "a repair of its memory waits for a reset"),
        )
        if value is not None and value > acknowledged
    ]
    if new:
        return Verdict(code=Code.MEMORY_REPAIR, faulty=True, reason="; ".join(new))
    if pending is None or pending or failed:
        return None
    return Verdict(code=Code.MEMORY_REPAIR, faulty=False, reason="no repair is pending any more")


_THROTTLES = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's reasons for lower clocks (nvmlClocksEventReason*) that are the device's or its housing's
trouble. A power cap (0x04) is none: that is how a busy GPU runs."""


def is_throttled(
    reasons: float | None, utilization_percent: float | None, limits: Thresholds
) -> bool | None:
    """Of one row. Idle with a reason set is unknown: it's no proof of either."""
    if reasons is None:
        return None
    if not any(int(reasons) & bit for bit in _THROTTLES):
        return False
    if utilization_percent is None or utilization_percent < limits.busy_percent:
        return None
    return True


def throttled(
    streak: Streak | None,
    *,
    reasons: float | None,
    celsius: float | None,
    limits: Thresholds,
) -> Verdict | None:
    """Its clocks have been held down by heat or power for long while it was busy."""
    if streak is None:
        return None
    if streak.has_been(True, limits.throttled_seconds):
        bits = int(reasons or 0)
        words = ", ".join(words for bit, words in _THROTTLES.items() if bits & bit)
        heat = "" if celsius is None else f", {celsius:.0f} C"
        return Verdict(
            code=Code.THROTTLED,
            faulty=True,
            reason=f"its clocks have been held down for {_minutes(streak)} while it was busy: "
            f"{words or 'thermal or power slowdown'}{heat}",
        )
    if streak.has_been(False, limits.throttled_clear_seconds):
        return Verdict(
            code=Code.THROTTLED,
            faulty=False,
            reason=f"its clocks have been free for {_minutes(streak)}",
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a device runs beside its peers: same model, same task, same moment."""

    device: str
    clock_sm_mhz: float
    peers_mhz: float
    """The median of the others."""
    peers: int


PEERS_MIN = 2
"""Of two that differ nobody knows which is wrong."""


def paces(
    devices: Sequence[tuple[str, float | None, float | None]], limits: Thresholds
) -> Iterator[Pace]:
    """Compare devices of one model that work on one task: ``(uuid, clock_sm_mhz,
    utilization_percent)``. Only those that are busy are compared, and compared with."""
    busy = sorted(
        (clock, uuid)
        for uuid, clock, utilization in devices
        if clock is not None and utilization is not None and utilization >= limits.busy_percent
    )
    if len(busy) <= PEERS_MIN:
        return
    clocks = [clock for clock, _ in busy]
    for at, (clock, uuid) in enumerate(busy):
        median = _median_without(clocks, at)
        yield Pace(device=uuid, clock_sm_mhz=clock, peers_mhz=median, peers=len(clocks) - 1)


def _median_without(ordered: Sequence[float], left_out: int) -> float:
    """Of all but one, without sorting anew for each of a large gang."""
    above, below = (len(ordered) - 1) // 2, (len(ordered) - 2) // 2
    return (ordered[above + (above >= left_out)] + ordered[below + (below >= left_out)]) / 2


def is_slow(pace: Pace, limits: Thresholds) -> bool:
    return pace.clock_sm_mhz < limits.slow_ratio * pace.peers_mhz


def slow(streak: Streak | None, pace: Pace | None, limits: Thresholds) -> Verdict | None:
    """It has long been slower than its peers under the same load: all ranks wait for it."""
    if streak is None or pace is None or streak.seconds < limits.slow_seconds:
        return None
    return Verdict(
        code=Code.SLOW,
        faulty=streak.value,
        reason=f"its SM clock is {pace.clock_sm_mhz:.0f} MHz, the median of {pace.peers} peers "
        f"under the same load {pace.peers_mhz:.0f} MHz, for {_minutes(streak)}",
    )


def unmanaged(
    streak: Streak | None, *, processes: float | None, memory_mib: float | None, limits: Thresholds
) -> Verdict | None:
    """Processes that belong to no task hold it."""
    if streak is None or streak.seconds < limits.unmanaged_seconds:
        return None
    if not streak.value:
        return Verdict(
            code=Code.UNMANAGED, faulty=False, reason="nobody but tasks holds it any more"
        )
    count = processes or 1
    held = "" if memory_mib is None else f" with {memory_mib:.0f} MiB"
    return Verdict(
        code=Code.UNMANAGED,
        faulty=True,
        reason=f"{count:.0f} process{'' if count == 1 else 'es'}{held} of no task "
        f"hold{'s' if count == 1 else ''} it since {_minutes(streak)}",
    )


_LEFT_MIB = 1_024.0
"""What a driver keeps for itself on a device that nobody uses is less."""


def unreleased(
    *, processes: float | None, strangers: float | None, memory_mib: float | None
) -> Verdict | None:
    """Of a device on which a task that is over left something: whether that is gone. Processes of
    tasks that share it may be there."""
    if strangers is None or strangers > 0:
        return None
    if not processes and (memory_mib is None or memory_mib > _LEFT_MIB):
        return None
    return Verdict(
        code=Code.UNRELEASED, faulty=False, reason="what was left on it is gone: it's free"
    )


def _minutes(streak: Streak) -> str:
    return f"{streak.seconds / 60:.0f} min"
