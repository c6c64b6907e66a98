"""What an agent decides. Pure: events in, instructions out; no clock, no socket, no file.

Level-triggered: whatever happened, each event ends in the same comparison of what the server wants
with what there is. The rules:

* an attempt (allocation id and generation) is started at most once, and only while the node's lease
  holds;
* a new generation waits until nothing of an older one is left;
* after a restart nothing is started or stopped before a desired set has come;
* what is wanted no more is stopped; its exit is reported until the server has settled it;
* an exit is reported when its devices are free, or have been waited for in vain;
* when the lease runs out, whatever isn't to be kept (``on_lease_lost``) is stopped: the server may
  give the work to another node.
"""

from dataclasses import replace
from typing import assert_never

from agent.attempt import ALIVE, KILL_MARGIN_SECONDS, Attempt, Step, attempt_of
from agent.events import (
    Acknowledged,
    AttemptEvent,
    AwaitRelease,
    Checked,
    DesiredReceived,
    DevicesReleased,
    Event,
    Exited,
    Forget,
    Instruction,
    Key,
    Kill,
    LeasePort,
    LeaseRenewed,
    LeaveOrdered,
    Moment,
    Overused,
    PortLeased,
    Recovered,
    ReleaseDelayed,
    ReportNow,
    Start,
    Started,
    Stop,
    Ticked,
)
from protocol.desired import DesiredAllocation, DesiredSet, Phase, StopCause
from protocol.report import AllocationReport, Exit
from protocol.task import LeasePolicy

# A process in the kernel's hands (a driver that hangs) ends when the kernel lets it; who has waited
# this long for that tells people (Slurm's UnkillableStepTimeout has the same default).
UNKILLABLE_SECONDS = 60.0


class State:
    """All that an agent knows of its allocations. Not shared between threads."""

    def __init__(self) -> None:
        self.attempts: dict[Key, Attempt] = {}
        self.revision: int | None = None
        """Of the newest desired set; None before the first."""
        self._desired: dict[Key, DesiredAllocation] = {}
        self._lease_until_seconds: float | None = None
        self._leaving: LeaveOrdered | None = None
        self._out: list[Instruction] = []

    def handle(self, event: Event) -> list[Instruction]:
        """Take one event in; what is to be done now, in this order."""
        self._out = []
        before = self.reports()
        self._take_in(event)
        self._converge(event.at)
        if self.reports() != before:
            self._out.append(ReportNow())
        return self._out

    def reports(self) -> tuple[AllocationReport, ...]:
        """What the server should know, in the order of the keys."""
        reports = (self.attempts[key].report() for key in sorted(self.attempts))
        return tuple(report for report in reports if report is not None)

    def running(self) -> dict[Key, tuple[DesiredAllocation, int]]:
        """What runs and isn't being stopped, with its port."""
        return {
            key: (attempt.allocation, attempt.port)
            for key, attempt in self.attempts.items()
            if attempt.step is Step.RUNNING and attempt.port is not None
        }

    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not any(attempt.step in ALIVE for attempt in self.attempts.values())

    # What an event says.

    def _take_in(self, event: Event) -> None:
        match event:
            case Recovered():
                self._lease_until_seconds = event.lease_until_seconds
                self.attempts = {found.key: attempt_of(found) for found in event.found}
                self._await_releases_anew()
            case DesiredReceived():
                self._take_desired(event.desired)
            case Acknowledged():
                for key in event.reported_exits:
                    if key.id in event.settled:
                        self._change(key, only={Step.EXITED}, settled_revision=event.revision)
            case LeaseRenewed():
                self._lease_until_seconds = event.until_seconds
            case LeaveOrdered():
                self._leaving = event
            case Ticked():
                pass
            case _:
                self._observe(event)

    def _observe(self, event: AttemptEvent) -> None:
        """What has happened to one attempt."""
        match event:
            case PortLeased():
                self._change(event.key, step=Step.READY, port=event.port, only={Step.LEASING})
            case Started():
                known = {"pid": event.pid, "started_at_ms": event.started_at_ms}
                self._change(event.key, only={Step.STOPPING}, **known)
                self._change(event.key, only={Step.STARTING}, step=Step.RUNNING, **known)
            case Exited():
                self._end(event.key, event.exit)
            case ReleaseDelayed():
                self._change(event.key, only={Step.RELEASING}, note=event.note)
            case DevicesReleased():
                said = {"held": event.held, "note": event.note}
                self._change(event.key, only={Step.RELEASING}, step=Step.EXITED, **said)
            case Overused():
                self._change(event.key, only={Step.RUNNING}, note=event.what)
                if event.stop:
                    self._stop(event.key, event.at, StopCause.OVERUSE, event.what)
            case Checked():
                self._change(event.key, only={Step.RUNNING}, ready=event.ready)
                if event.failed:
                    self._stop(event.key, event.at, StopCause.UNHEALTHY, event.failed)
            case _:
                assert_never(event)

    def _take_desired(self, desired: DesiredSet) -> None:
        if self.revision is not None and desired.revision < self.revision:
            return  # an answer that was overtaken on its way
        self.revision = desired.revision
        self._desired = {
            Key(id=wanted.id, generation=wanted.generation): wanted
            for wanted in desired.allocations
        }

    # What follows from it.

    def _converge(self, at: Moment) -> None:
        holds = self._lease_holds(at)
        if self._leaving is not None:
            self._leave(at, kill=self._leaving.kill)
        elif self._lease_until_seconds is not None and not holds:
            self._fence(at)
        elif self.revision is not None:
            for key in sorted(self._desired):
                self._converge_wanted(key, self._desired[key], at, may_start=holds)
        if self.revision is not None:
            for key in sorted(self.attempts.keys() - self._desired.keys()):
                self._converge_unwanted(key, at, self.revision)
        self._kill_overdue(at)

    def _lease_holds(self, at: Moment) -> bool:
        until = self._lease_until_seconds
        return until is not None and at.boot_seconds < until

    def _converge_wanted(
        self, key: Key, wanted: DesiredAllocation, at: Moment, *, may_start: bool
    ) -> None:
        attempt = self.attempts.get(key)
        if wanted.phase is Phase.STOP:
            self._converge_stopped(key, wanted, attempt, at)
        elif attempt is None:
            if not any(k.id == key.id and k.generation > key.generation for k in self.attempts):
                self._lease_port(key, wanted)
        elif attempt.step is Step.READY and wanted.phase is Phase.RUN and may_start:
            self._start(key, wanted, attempt)

    def _converge_stopped(
        self, key: Key, wanted: DesiredAllocation, attempt: Attempt | None, at: Moment
    ) -> None:
        if attempt is None:
            # The server waits for an exit; none will come of an attempt that never was.
            attempt = self.attempts[key] = Attempt(allocation=wanted, step=Step.READY)
        if attempt.step in {Step.LEASING, Step.READY}:
            reason = "stopped before it was started"
            cause = wanted.stop.cause if wanted.stop else StopCause.UNWANTED
            self._end(key, Exit(stopped=True, cause=cause, reason=reason, at_ms=at.wall_ms))
        elif wanted.stop is None:
            self._stop(key, at, StopCause.UNWANTED, "stopped by the service")
        elif wanted.stop.kill:
            self._kill_once(key, at, wanted.stop.cause, wanted.stop.reason)
        else:
            self._stop(key, at, wanted.stop.cause, wanted.stop.reason)

    def _converge_unwanted(self, key: Key, at: Moment, revision: int) -> None:
        attempt = self.attempts[key]
        match attempt.step:
            case Step.LEASING | Step.READY:
                self._forget(key)
            case Step.STARTING | Step.RUNNING | Step.STOPPING:
                self._stop(key, at, StopCause.UNWANTED, "no longer wanted on this node")
            case Step.RELEASING:
                pass  # its exit is still to be told
            case Step.EXITED:
                # A set older than the settlement may have listed it and still be on its way here.
                if attempt.settled_revision is not None and attempt.settled_revision <= revision:
                    self._forget(key)
            case _:
                assert_never(attempt.step)

    def _lease_port(self, key: Key, wanted: DesiredAllocation) -> None:
        self.attempts[key] = Attempt(allocation=wanted, step=Step.LEASING)
        self._out.append(LeasePort(key=key, port=_promised_port(wanted)))

    def _start(self, key: Key, wanted: DesiredAllocation, attempt: Attempt) -> None:
        blocking = ALIVE | {Step.RELEASING}
        if any(
            k.id == key.id and k != key and a.step in blocking for k, a in self.attempts.items()
        ):
            return
        promised = _promised_port(wanted)
        if promised is not None and promised != attempt.port:
            # The gang was told a port that an earlier run of this agent had leased.
            self._lease_port(key, wanted)
            return
        master_port = attempt.port if wanted.gang.rank == 0 else wanted.gang.master_port
        if master_port is None or attempt.port is None:
            return
        self.attempts[key] = replace(attempt, allocation=wanted, step=Step.STARTING)
        self._out.append(
            Start(key=key, allocation=wanted, port=attempt.port, master_port=master_port)
        )

    def _leave(self, at: Moment, *, kill: bool) -> None:
        reason = "the agent was told to stop its tasks"
        for key in sorted(self.attempts):
            if kill:
                self._kill_once(key, at, StopCause.LEFT, reason)
            else:
                self._stop(key, at, StopCause.LEFT, reason)

    def _fence(self, at: Moment) -> None:
        reason = "lease expired: the service was not reached, and may have moved the task"
        for key, attempt in sorted(self.attempts.items(), key=_by_key):
            if attempt.allocation.launch.on_lease_lost is LeasePolicy.FENCE:
                self._stop(key, at, StopCause.LEASE, reason)

    def _stop(self, key: Key, at: Moment, cause: StopCause, reason: str) -> None:
        attempt = self.attempts.get(key)
        if attempt is None or attempt.step not in {Step.STARTING, Step.RUNNING}:
            return
        kill_at_seconds = attempt.kill_due(at)
        self._change(key, step=Step.STOPPING, kill_at_seconds=kill_at_seconds, cause=cause)
        self._out.append(Stop(key=key, cause=cause, reason=reason))

    def _kill_overdue(self, at: Moment) -> None:
        for key, attempt in sorted(self.attempts.items(), key=_by_key):
            due = attempt.kill_at_seconds
            if attempt.step is Step.STOPPING and (due is None or due <= at.boot_seconds):
                if due is None:  # found while it was being stopped: its grace starts anew
                    self._change(key, kill_at_seconds=attempt.kill_due(at))
                else:
                    self._kill(key, at, attempt.cause, "still there after its grace")

    def _kill_once(self, key: Key, at: Moment, cause: StopCause, reason: str) -> None:
        attempt = self.attempts[key]
        if attempt.step in ALIVE and attempt.killed_at_seconds is None:
            self._kill(key, at, cause, reason)

    def _kill(self, key: Key, at: Moment, cause: StopCause, reason: str) -> None:
        first = self.attempts[key].killed_at_seconds
        since = at.boot_seconds if first is None else first
        self._change(
            key,
            step=Step.STOPPING,
            cause=cause,
            killed_at_seconds=since,
            kill_at_seconds=at.boot_seconds + KILL_MARGIN_SECONDS,  # when to try again
            unkillable=at.boot_seconds - since >= UNKILLABLE_SECONDS,
        )
        self._out.append(Kill(key=key, cause=cause, reason=reason))

    def _end(self, key: Key, how: Exit) -> None:
        attempt = self.attempts.get(key)
        if attempt is None or attempt.step in {Step.RELEASING, Step.EXITED}:
            return
        devices = attempt.real_devices
        waits = bool(devices) and attempt.step in ALIVE
        self.attempts[key] = replace(
            attempt,
            step=Step.RELEASING if waits else Step.EXITED,
            exit=how,
            unkillable=False,
            note="",
        )
        if waits:
            self._out.append(AwaitRelease(key=key, devices=devices))

    def _await_releases_anew(self) -> None:
        """What ended in an earlier run may hold its devices still; not where somebody else has been
        given them since.
        """
        taken = {
            device
            for attempt in self.attempts.values()
            if attempt.step in ALIVE
            for device in attempt.allocation.devices
        }
        for key in sorted(self.attempts):
            attempt = self.attempts[key]
            devices = attempt.real_devices
            if attempt.step is Step.EXITED and devices and not taken & set(devices):
                self._change(key, step=Step.RELEASING)
                self._out.append(AwaitRelease(key=key, devices=devices))

    def _forget(self, key: Key) -> None:
        del self.attempts[key]
        self._out.append(Forget(key=key))

    def _change(self, key: Key, *, only: set[Step] | None = None, **changes: object) -> None:
        attempt = self.attempts.get(key)
        if attempt is not None and (only is None or attempt.step in only):
            self.attempts[key] = replace(attempt, **changes)  # pyright: ignore[reportArgumentType]


def _by_key(item: tuple[Key, Attempt]) -> Key:
    return item[0]


def _promised_port(wanted: DesiredAllocation) -> int | None:
    """The port that the rest of a gang believes rank 0 to listen on."""
    return wanted.gang.master_port if wanted.gang.rank == 0 else None
