"""Looks at the host, the devices and the tasks, over and over: rows for the spool, events for the
log, and the inventory for whoever reports it.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from agent.clock import Clock
from agent.processes import parent
from agent.samples.attribution import TaskUse, attributed
from agent.samples.event_log import EventLog
from agent.samples.sample_spool import SampleSpool
from agent.samples.shipping import SampleShipper
from agent.samples.sights import Sight
from agent.samples.windows import Look, Window
from telemetry.collect import Collection, Collector
from telemetry.probes.tasks import TaskReader, TaskReading
from telemetry.samples import DeviceEvent, Inventory

log = structlog.get_logger("stowplan.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """An allocation that runs here: its shim, and what it holds."""

    allocation: str
    shim_pid: int
    devices: tuple[str, ...]
    whole: bool


class Measuring:
    """Measures every ``interval_seconds``. To be used on the event loop's thread."""

    def __init__(
        self,
        *,
        collector: Collector,
        tasks: TaskReader,
        clock: Clock,
        interval_seconds: float,
        window: Window,
        spool: SampleSpool,
        shipper: SampleShipper,
        events: EventLog,
    ) -> None:
        self.inventory: Inventory | None = None
        """As it was last seen."""
        self.measured = asyncio.Event()
        """Set when there is an inventory."""
        self.sight: Sight | None = None
        """The newest."""
        self._collector = collector
        self._tasks = tasks
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._window = window
        self._spool = spool
        self._shipper = shipper
        self._events = events
        self._fresh_events: deque[DeviceEvent] = deque()
        """Told once by the probe: a look that is broken off must not lose them."""
        self._looking = threading.Lock()
        """Held by the look that is under way when the agent is told to leave."""
        self._faults: tuple[str, ...] = ()
        self._log_works = True
        self._asked: set[str] = set()
        self._hurry = asyncio.Event()

    def device_numa(self, uuid: str) -> int | None:
        """The NUMA node that a device sits on; None where that isn't known."""
        devices = self.inventory.devices if self.inventory else ()
        return next((device.numa for device in devices if device.uuid == uuid), None)

    def look_anew(self, devices: Iterable[str]) -> None:
        """Look soon, and ask who uses these devices now."""
        self._asked.update(devices)
        self._hurry.set()

    async def run(
        self,
        *,
        running: Callable[[], Sequence[RunningTask]],
        tell: Callable[[], None],
        seen: Callable[[Sight], None] = lambda _: None,
    ) -> None:
        """Measure for ever. ``tell`` is called when the inventory has changed or a device has
        something to tell: the service should know soon. ``seen`` is called after each look.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            is_due = loop.time() >= due
            asked, self._asked = frozenset(self._asked), set()
            self._hurry.clear()
            try:
                collection, look, sight = await asyncio.to_thread(self._look, running(), asked)
            except (OSError, TimeoutError) as error:
                self._say_faults((f"host: {error}",))
            else:
                # A look between two that are due makes no row: their spacing stays even.
                self._take_in(collection, look if is_due else None, tell)
                self.sight = sight
                seen(sight)
            if is_due:  # from when it was due, not from when it was done
                due = max(due + self._interval_seconds, loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._hurry.wait()

    def close(self) -> None:
        """Leave what isn't sent to the next run of the agent. Blocks for as long as the probes
        take.
        """
        self._spool.close()
        with self._looking:
            self._collector.close()
        self._keep_events(lambda: None)

    def _look(
        self, running: Sequence[RunningTask], asked: frozenset[str]
    ) -> tuple[Collection, Look, Sight]:
        """One round, on a thread of its own: any of this may block for seconds."""
        with self._looking:
            collection, readings = self._probe(running, asked)
        uses = [
            TaskUse(
                sample=readings[task.allocation].sample,
                pids=readings[task.allocation].pids,
                devices=task.devices,
                whole=task.whole,
            )
            for task in running
            if task.allocation in readings
        ]
        devices, samples = attributed(
            collection.devices, uses, agent_pid=os.getpid(), parent_of=parent
        )
        at = self._clock.now()
        look = Look(at=at, host=collection.host, devices=devices, tasks=samples)
        sight = Sight(
            at=at,
            inventory=collection.inventory,
            devices={device.uuid: device for device in collection.devices},
            fresh_at=collection.fresh_at,
            tasks=readings,
        )
        return collection, look, sight

    def _probe(
        self, running: Sequence[RunningTask], asked: frozenset[str]
    ) -> tuple[Collection, Mapping[str, TaskReading]]:
        collection = self._collector.collect(asked)
        self._fresh_events.extend(collection.events)
        try:
            roots = {task.allocation: task.shim_pid for task in running}
            return collection, self._tasks.read(roots)
        except Exception as error:  # noqa: BLE001  as of any probe: the others' data counts
            return replace(collection, faults=(*collection.faults, f"tasks: {error}")), {}

    def _take_in(self, collection: Collection, look: Look | None, tell: Callable[[], None]) -> None:
        self._say_faults(collection.faults)
        self._keep_events(tell)
        if self.inventory != collection.inventory:
            self.inventory = collection.inventory
            self.measured.set()
            tell()
        if look is None:
            return
        if look.host is not None:
            self._shipper.add_host(look.host)
        batch = self._window.add(look)
        if batch is not None:
            self._spool.add(batch)
            self._shipper.wake()

    def _keep_events(self, tell: Callable[[], None]) -> None:
        while self._fresh_events:
            event = self._fresh_events.popleft()
            log.warning(
                "device event", kind=event.kind, device=event.uuid, code=event.code, at=event.at_ms
            )
            self._events.add([event])
        try:
            if self._events.sync():
                tell()
            self._log_works = True
        except OSError as error:
            if self._log_works:
                log.warning("device events can't be kept on disk yet", error=str(error))
            self._log_works = False

    def _say_faults(self, faults: tuple[str, ...]) -> None:
        """Each once, not once a second."""
        for fault in faults:
            if fault not in self._faults:
                log.warning("not measured", fault=fault)
        self._faults = faults
