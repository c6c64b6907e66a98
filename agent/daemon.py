"""The agent's loops: all its input and output, and no decision (see :mod:`agent.reconcile`)."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from agent import progress
from agent.checks import Checks
from agent.client import Backoff, RefusedError, ServiceClient, UnreachableError
from agent.devices.releasing import Releases
from agent.events import (
    Acknowledged,
    AwaitRelease,
    DesiredReceived,
    Event,
    Forget,
    Instruction,
    Key,
    Kill,
    LeasePort,
    LeaseRenewed,
    LeaveOrdered,
    Moment,
    Recovered,
    ReportNow,
    Start,
    Stop,
    Ticked,
)
from agent.joining import Membership, join
from agent.output.log_disk import LogDisk
from agent.output.logs import LogShipper
from agent.processes import boot_id
from agent.reconcile import State
from agent.runtime import Runtime
from agent.samples.event_log import EventLog
from agent.samples.measuring import Measuring, RunningTask
from agent.samples.shipping import SampleShipper
from agent.samples.sights import Sight
from agent.spool import Spool
from agent.watches.watching import Watches
from protocol import VERSION
from protocol.report import AllocationReport, AllocationState, Report, ReportAck
from telemetry.samples import Inventory

LONG_POLL_SECONDS = 25.0
_WHOLE_DEVICE_MILLI = 1000
_TICK_SECONDS = 1.0
_LOG_SECONDS = 0.5
# How long a report with an exit waits for the last output: who sees a task fail should find why in
# its log, but a service that takes no output must not keep the exit, or the lease, from being told.
_LAST_OUTPUT_SECONDS = 5.0
_FAREWELL_SECONDS = 2 * _LAST_OUTPUT_SECONDS

log = structlog.get_logger("stowplan.agent")


class Daemon:
    """One agent. :meth:`run` returns when it is told to leave."""

    def __init__(
        self,
        *,
        membership: Membership,
        spool: Spool,
        client: ServiceClient,
        measuring: Measuring,
        sample_shipper: SampleShipper,
        log_shipper: LogShipper,
        log_disk: LogDisk,
        events: EventLog,
        make_releases: Callable[[Callable[[Event], None]], Releases],
        make_watches: Callable[[Callable[[Event], None]], Watches],
        make_runtime: Callable[[Callable[[Event], None]], Runtime],
        now: Callable[[], Moment],
        epoch: str,
        stop_tasks_on_exit: bool,
    ) -> None:
        self._membership = membership
        self._spool = spool
        self._client = client
        self._measuring = measuring
        self._sample_shipper = sample_shipper
        self._events = events
        self._now = now
        self._stop_tasks_on_exit = stop_tasks_on_exit
        self._state = State()
        self._runtime = make_runtime(self._handle)
        self._releases = make_releases(self._handle)
        self._watches = make_watches(self._handle)
        self._checks = Checks(emit=self._handle, now=now)
        self._shipper = log_shipper
        self._log_disk = log_disk
        self._boot_id = boot_id()
        self._epoch = epoch
        self._seq = 0
        self._interval_seconds = 1.0
        self._known_inventory: Inventory | None = None
        """As the service has it."""
        self._report_due = asyncio.Event()
        self._registered = asyncio.Event()
        self._leave = asyncio.Event()
        self._told_to_leave = False
        self._forgetting: set[Key] = set()

    # Life.

    async def run(self) -> None:
        """Serve until :meth:`leave`.

        Raises:
            RefusedError: the service doesn't want this node; what runs goes on.
        """
        try:
            await self._recover()
            loops = [
                asyncio.create_task(loop)
                for loop in (
                    self._report_loop(),
                    self._desired_loop(),
                    self._measuring.run(
                        running=self._running_tasks, tell=self._report_due.set, seen=self._judge
                    ),
                    self._sample_loop(),
                    self._log_loop(),
                    self._log_disk.run(self._shipper.followed),
                    self._tick_loop(),
                    self._leave.wait(),
                )
            ]
            try:
                done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    finished.result()
            finally:
                await _cancelled(loops)
            await self._say_farewell()
        finally:
            self._runtime.close()
            self._releases.close()
            await self._checks.close()
            await asyncio.to_thread(self._measuring.close)
            await self._client.close()

    @property
    def registered(self) -> asyncio.Event:
        """Set from when the service knows this run of the agent, which by then knows what runs."""
        return self._registered

    def leave(self) -> None:
        """End: at once, or with the tasks (first their grace, the second time none)."""
        if not self._stop_tasks_on_exit:
            self._leave.set()
            return
        kill, self._told_to_leave = self._told_to_leave, True
        log.info("stopping all tasks", kill=kill)
        self._handle(LeaveOrdered(at=self._now(), kill=kill))
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        if self._told_to_leave and self._state.is_idle():
            self._leave.set()

    async def _recover(self) -> None:
        found = await self._runtime.recover()
        until = self._spool.lease_until(self._boot_id)
        for one in found:
            log.info("found", allocation=one.key.id, state=one.state, pid=one.pid)
            self._shipper.follow(one.key)
        self._handle(Recovered(at=self._now(), found=found, lease_until_seconds=until))

    async def _say_farewell(self) -> None:
        """The last exits, if the service is there to hear them; they stay on disk in any case."""
        if self._registered.is_set():
            with suppress(UnreachableError, RefusedError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await self._report()

    # Events in, instructions out.

    def _handle(self, event: Event) -> None:
        if not isinstance(event, Ticked):
            log.debug("event", event_name=type(event).__name__)
        for instruction in self._state.handle(event):
            self._carry_out(instruction)
        self._checks.keep(self._state.running())
        self._leave_when_idle()

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case LeasePort():
                self._runtime.lease_port(instruction.key, instruction.port)
            case Start():
                _say("starting", instruction.key, task=instruction.allocation.task_name)
                self._runtime.start(instruction)
                self._shipper.follow(instruction.key)
            case Stop():
                _say("stopping", instruction.key, reason=instruction.reason)
                self._runtime.stop(instruction.key, instruction.cause, instruction.reason)
            case Kill():
                _say("killing", instruction.key, reason=instruction.reason)
                self._runtime.kill(instruction.key, instruction.cause, instruction.reason)
            case AwaitRelease():
                self._releases.await_release(instruction.key, instruction.devices)
            case Forget():
                self._forgetting.add(instruction.key)
                self._forget_what_is_shipped()
            case ReportNow():
                self._report_due.set()

    def _judge(self, sight: Sight) -> None:
        self._releases.seen(sight)
        running = {key: allocation for key, (allocation, _) in self._state.running().items()}
        self._watches.seen(sight, running, memory=not self._runtime.holds_memory)

    def _running_tasks(self) -> list[RunningTask]:
        return [
            RunningTask(
                allocation=key.id,
                shim_pid=shim_pid,
                devices=attempt.allocation.devices,
                whole=attempt.allocation.gpu_milli >= _WHOLE_DEVICE_MILLI,
            )
            for key, attempt in self._state.attempts.items()
            if (shim_pid := self._runtime.shim_pid(key)) is not None
        ]

    # Loops.

    async def _report_loop(self) -> None:
        backoff = Backoff()
        while True:
            try:
                if not self._registered.is_set():
                    await self._register()
                await self._report()
                backoff.succeeded()
            except UnreachableError as error:
                pause = backoff.failed(error)
                log.warning("service not reached", error=str(error), retry_seconds=round(pause, 1))
                await asyncio.sleep(pause)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._report_due.wait()

    async def _desired_loop(self) -> None:
        await self._registered.wait()
        backoff = Backoff()
        while True:
            revision = -1 if self._state.revision is None else self._state.revision
            try:
                desired = await self._client.desired(
                    revision=revision, wait_seconds=LONG_POLL_SECONDS
                )
            except UnreachableError as error:
                await asyncio.sleep(backoff.failed(error))
                continue
            backoff.succeeded()
            if desired is not None:
                self._handle(DesiredReceived(at=self._now(), desired=desired))

    async def _sample_loop(self) -> None:
        await self._registered.wait()
        await self._sample_shipper.run()

    async def _log_loop(self) -> None:
        await self._registered.wait()
        backoff = Backoff()
        while True:
            try:
                await self._shipper.ship_all()
                self._forget_what_is_shipped()
                backoff.succeeded()
            except UnreachableError as error:
                await asyncio.sleep(backoff.failed(error))
            await asyncio.sleep(_LOG_SECONDS)

    async def _tick_loop(self) -> None:
        while True:
            self._handle(Ticked(at=self._now()))
            await asyncio.sleep(_TICK_SECONDS)

    def _forget_what_is_shipped(self) -> None:
        """An attempt's files go only when the service has all its output (or wants none)."""
        for key in [key for key in self._forgetting if self._shipper.is_done(key)]:
            self._forgetting.discard(key)
            self._shipper.forget(key)
            self._runtime.forget(key)

    # Speaking with the service.

    async def _register(self) -> None:
        await self._measuring.measured.wait()
        inventory = self._measuring.inventory
        if inventory is None:
            raise UnreachableError("this node has not been measured yet")
        sent_at = self._now()
        answer = await join(self._membership, inventory, client=self._client, spool=self._spool)
        self._known_inventory = inventory
        self._interval_seconds = answer.report_interval_seconds
        self._renew_lease(sent_at, answer.lease_seconds)
        self._registered.set()
        log.info("registered", node=answer.node, lease_seconds=answer.lease_seconds)

    async def _report(self) -> None:
        self._report_due.clear()
        reports = self._state.reports()
        exits = tuple(
            Key(id=report.id, generation=report.generation)
            for report in reports
            if report.state is AllocationState.EXITED
        )
        await self._ship_last_output(exits)
        told = await asyncio.to_thread(progress.told, self._controls(reports))
        inventory = self._measuring.inventory
        self._seq += 1
        sent_at = self._now()
        form = Report(
            version=VERSION,
            node=self._membership.node,
            boot_id=self._boot_id,
            epoch=self._epoch,
            seq=self._seq,
            sent_at_ms=sent_at.wall_ms,
            allocations=tuple(map(self._with_note, reports)),
            progress=told,
            inventory=inventory if inventory != self._known_inventory else None,
            event_log=self._events.name,
            events=self._events.unsettled(),
        )
        ack = await self._client.report(form)
        self._known_inventory = inventory
        if self._events.settle(ack.events_settled) and self._events.unsettled():
            self._report_due.set()  # more than one report takes
        self._acknowledged(ack, exits, sent_at)

    def _controls(self, reports: Sequence[AllocationReport]) -> list[tuple[Key, Path]]:
        """Of the attempts that may have something to tell."""
        keys = [
            Key(id=report.id, generation=report.generation)
            for report in reports
            if report.state in {AllocationState.RUNNING, AllocationState.STOPPING}
        ]
        return [(key, self._spool.control(key)) for key in keys]

    def _with_note(self, report: AllocationReport) -> AllocationReport:
        """With what is to be said of its output besides."""
        key = Key(id=report.id, generation=report.generation)
        notes = (report.note, self._log_disk.note(key), self._shipper.note(key))
        note = "; ".join(note for note in notes if note)
        return report if note == report.note else report.model_copy(update={"note": note})

    async def _ship_last_output(self, exits: tuple[Key, ...]) -> None:
        with suppress(UnreachableError, TimeoutError):
            async with asyncio.timeout(_LAST_OUTPUT_SECONDS):
                await self._shipper.finish(exits, seconds=_LAST_OUTPUT_SECONDS)

    def _acknowledged(self, ack: ReportAck, exits: tuple[Key, ...], sent_at: Moment) -> None:
        self._interval_seconds = ack.report_interval_seconds
        self._renew_lease(sent_at, ack.lease_seconds)
        self._handle(
            Acknowledged(
                at=self._now(),
                reported_exits=exits,
                settled=ack.settled,
                revision=ack.revision,
            )
        )

    def _renew_lease(self, sent_at: Moment, lease_seconds: float) -> None:
        """From when it was *sent*: the service may have counted from any moment since."""
        until = sent_at.boot_seconds + lease_seconds
        try:
            self._spool.keep_lease(self._boot_id, until)
        except OSError as error:  # a full disk: the lease holds all the same, for this run
            log.warning("the lease's end was not kept", error=str(error))
        self._handle(LeaseRenewed(at=self._now(), until_seconds=until))


def watch_signals(daemon: Daemon) -> None:
    """SIGTERM and SIGINT make the agent leave."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.leave)


def _say(what: str, key: Key, **more: str) -> None:
    log.info(what, allocation=key.id, generation=key.generation, **more)


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
