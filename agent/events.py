"""What happens to an agent, and what it is to do then: the words of :mod:`agent.reconcile`."""

from dataclasses import dataclass

from protocol.desired import DesiredAllocation, DesiredSet, StopCause
from protocol.report import AllocationState, Exit


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """One attempt of one allocation: what is started at most once."""

    id: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, on two clocks: one that never jumps and counts suspended time, and people's."""

    boot_seconds: float
    wall_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An attempt that an earlier run of the agent left: running still, or ended."""

    key: Key
    allocation: DesiredAllocation
    state: AllocationState
    port: int
    pid: int | None = None
    started_at_ms: int | None = None
    exit: Exit | None = None


# Events.


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The agent has started: this is what it found. ``lease_until`` is on this boot's clock."""

    at: Moment
    found: tuple[Found, ...]
    lease_until_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredReceived:
    at: Moment
    desired: DesiredSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLeased:
    at: Moment
    key: Key
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The program runs, and its identity is on disk."""

    at: Moment
    key: Key
    pid: int
    started_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """Nothing of the attempt is left, or it could not be started."""

    at: Moment
    key: Key
    exit: Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDelayed:
    """Nothing of an ended attempt is left, but its devices aren't free yet: ``note`` says why."""

    at: Moment
    key: Key
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesReleased:
    """The devices of an ended attempt are free, but for ``held``, on which nobody waits longer."""

    at: Moment
    key: Key
    held: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overused:
    """An attempt uses more than it asked for (``what``; empty: no more). ``stop``: for too long."""

    at: Moment
    key: Key
    what: str
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks of a service have come to, each time that changes.

    ``ready`` is None without a readiness check; ``failed`` says how its health check failed for
    good, and is empty while it's well.
    """

    at: Moment
    key: Key
    ready: bool | None
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The server has a report: the exits in it, those that it settled, its revision."""

    at: Moment
    reported_exits: tuple[Key, ...]
    settled: tuple[str, ...]
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    at: Moment
    until_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOrdered:
    """The agent is to end together with its tasks; ``kill``: at once, without grace."""

    at: Moment
    kill: bool = False


AttemptEvent = PortLeased | Started | Exited | ReleaseDelayed | DevicesReleased | Overused | Checked
Event = (
    Recovered | DesiredReceived | AttemptEvent | Acknowledged | LeaseRenewed | Ticked | LeaveOrdered
)


# Instructions.


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePort:
    """Reserve a port for this attempt: any, or ``port``, which its gang was told already."""

    key: Key
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start the program. ``master_port`` is where rank 0 of its gang listens."""

    key: Key
    allocation: DesiredAllocation
    port: int
    master_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End it by the sequence of its launch (docs/decisions/0005)."""

    key: Key
    cause: StopCause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The grace is over and the attempt is still there, or nobody wants to wait for it."""

    key: Key
    cause: StopCause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitRelease:
    """Say when the devices of this attempt, of which nothing is left, are free."""

    key: Key
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Remove what is kept of this attempt, its port lease included."""

    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportNow:
    """What the server should know has changed."""


Instruction = LeasePort | Start | Stop | Kill | AwaitRelease | Forget | ReportNow
