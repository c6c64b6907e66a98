"""One attempt as its agent knows it. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from agent.events import Found, Moment
from protocol.desired import DesiredAllocation, StopCause
from protocol.report import AllocationReport, AllocationState, Exit
from telemetry.samples import SIMULATED_PREFIX

# The shim kills at the end of the sequence by itself; past this much more the agent doesn't trust
# it.
KILL_MARGIN_SECONDS = 5.0


class Step(StrEnum):
    """How far an attempt has come, in this order."""

    LEASING = "leasing"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    RELEASING = "releasing"
    """Nothing of it is left; its devices aren't known to be free yet."""
    EXITED = "exited"


ALIVE = {Step.STARTING, Step.RUNNING, Step.STOPPING}
"""Processes may be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of one attempt."""

    allocation: DesiredAllocation
    step: Step
    port: int | None = None
    pid: int | None = None
    started_at_ms: int | None = None
    exit: Exit | None = None
    kill_at_seconds: float | None = None
    killed_at_seconds: float | None = None
    """When it was first killed."""
    cause: StopCause = StopCause.UNWANTED
    """Why it is being stopped."""
    ready: bool | None = None
    held: tuple[str, ...] = ()
    unkillable: bool = False
    note: str = ""
    settled_revision: int | None = None
    """The server's revision when it had settled the exit: a set that old may still list the
    attempt.
    """

    @property
    def real_devices(self) -> tuple[str, ...]:
        """Without the simulated ones: those are only numbers, nothing can be left on them."""
        devices = self.allocation.devices
        return tuple(device for device in devices if not device.startswith(SIMULATED_PREFIX))

    def kill_due(self, at: Moment) -> float:
        """When the agent stops trusting a stop that is ordered now."""
        return at.boot_seconds + self.allocation.launch.stop_seconds_max + KILL_MARGIN_SECONDS

    def report(self) -> AllocationReport | None:
        """What the server is told of it; None for what it need not know (any more)."""
        if self.step is Step.LEASING or self.settled_revision is not None:
            return None
        return AllocationReport(
            id=self.allocation.id,
            generation=self.allocation.generation,
            state=_REPORTED[self.step],
            port=self.port,
            pid=self.pid,
            started_at_ms=self.started_at_ms,
            ready=self._reported_ready(),
            held_devices=self.held,
            unkillable=self.unkillable,
            note=self.note,
            exit=None if self.step is Step.RELEASING else self.exit,
        )

    def _reported_ready(self) -> bool | None:
        if self.allocation.launch.readiness is None:
            return None
        return self.step is Step.RUNNING and bool(self.ready)


_REPORTED = {
    Step.READY: AllocationState.READY,
    Step.STARTING: AllocationState.READY,
    Step.RUNNING: AllocationState.RUNNING,
    Step.STOPPING: AllocationState.STOPPING,
    Step.RELEASING: AllocationState.STOPPING,
    Step.EXITED: AllocationState.EXITED,
}
_FOUND = {
    AllocationState.RUNNING: Step.RUNNING,
    AllocationState.STOPPING: Step.STOPPING,
    AllocationState.EXITED: Step.EXITED,
}


def attempt_of(found: Found) -> Attempt:
    return Attempt(
        allocation=found.allocation,
        step=_FOUND[found.state],
        port=found.port,
        pid=found.pid,
        started_at_ms=found.started_at_ms,
        exit=found.exit,
    )
