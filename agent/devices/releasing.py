"""Waits until the devices of an ended attempt are free, and says so, or that they won't be."""

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

import structlog

from agent.devices.release import Claim, DeviceVerdict, Evidence, Verdict, in_words, judged
from agent.devices.shares import is_whole
from agent.events import DevicesReleased, Event, Key, Moment, ReleaseDelayed
from agent.processes import boot_id, name, parent
from agent.samples.sights import Sight
from agent.spool import Spool
from telemetry.samples import SIMULATED_PREFIX

log = structlog.get_logger("stowplan.agent")

_SAY_SECONDS = 2.0
"""Before that a delay is how devices are let go, and no news."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0


@dataclass(slots=True)
class _Waiting:
    claim: Claim
    since: float
    """Readings that were asked for before don't count."""
    give_up: asyncio.TimerHandle
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    again: asyncio.TimerHandle | None = None
    verdicts: dict[str, DeviceVerdict] = field(default_factory=dict)
    """Of each device the newest; one that is free stays so."""
    said: str = ""
    looks: int = 0

    @property
    def left(self) -> tuple[str, ...]:
        """Devices that aren't free yet."""
        return tuple(
            device
            for device in self.claim.devices
            if device not in self.verdicts or self.verdicts[device].verdict is not Verdict.FREE
        )


class Releases:
    """The devices of one node that aren't free yet. To be used on the event loop's thread only.

    ``look_anew`` asks for a look at devices, which comes in by :meth:`seen`. ``has_devices`` is
    whether this node looks for real devices at all; where it doesn't, there are none to wait for.
    A driver lets go of a device within seconds of its last process's end, on the largest ones too:
    what isn't free after ``give_up_seconds`` takes a person, or a reset.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        look_anew: Callable[[Iterable[str]], None],
        emit: Callable[[Event], None],
        now: Callable[[], Moment],
        has_devices: bool = True,
        give_up_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._look_anew = look_anew
        self._emit = emit
        self._now = now
        self._has_devices = has_devices
        self._give_up_seconds = give_up_seconds
        self._monotonic = monotonic
        self._waiting: dict[Key, _Waiting] = {}
        self._pids: dict[str, frozenset[int]] = {}
        """Of each allocation, its processes that were seen on its devices and are there still."""

    def close(self) -> None:
        """Wait no more; the next run of the agent begins anew."""
        for waiting in self._waiting.values():
            _cancel(waiting)
        self._waiting.clear()

    def await_release(self, key: Key, devices: Collection[str]) -> None:
        """Begin to wait for these devices of an attempt of which nothing is left."""
        real = tuple(device for device in devices if not device.startswith(SIMULATED_PREFIX))
        if not real or not self._has_devices:
            self._pids.pop(key.id, None)
            self._emit(DevicesReleased(at=self._now(), key=key))
            return
        if key in self._waiting:
            return
        loop = asyncio.get_running_loop()
        self._waiting[key] = _Waiting(
            claim=self._claim(key, real),
            since=self._monotonic(),
            give_up=loop.call_later(self._give_up_seconds, self._give_up, key),
        )
        self._look_anew(real)

    def seen(self, sight: Sight) -> None:
        """Judge by one look at this machine."""
        self._remember_processes(sight)
        for key, waiting in list(self._waiting.items()):
            self._judge(key, waiting, sight)

    def _judge(self, key: Key, waiting: _Waiting, sight: Sight) -> None:
        evidence = self._evidence(waiting, sight)
        # One that was seen, but not anew, is judged by the next look.
        judgeable = tuple(
            device
            for device in waiting.left
            if device in evidence.samples or device not in sight.devices
        )
        verdicts = judged(replace(waiting.claim, devices=judgeable), evidence)
        waiting.verdicts.update({one.device: one for one in verdicts})
        waiting.looks += bool(verdicts)
        if not waiting.left:
            self._end(key, waiting)
            return
        note = in_words(waiting.verdicts.values())
        if self._monotonic() - waiting.since >= _SAY_SECONDS and note != waiting.said:
            waiting.said = note
            self._emit(ReleaseDelayed(at=self._now(), key=key, note=f"its devices: {note}"))
        if waiting.again is None and key in self._waiting:
            loop = asyncio.get_running_loop()
            waiting.again = loop.call_later(waiting.pause_seconds, self._ask_again, waiting)
            waiting.pause_seconds = min(_LONGEST_PAUSE_SECONDS, 1.5 * waiting.pause_seconds)

    def _ask_again(self, waiting: _Waiting) -> None:
        waiting.again = None
        self._look_anew(waiting.left)

    def _give_up(self, key: Key) -> None:
        waiting = self._waiting[key]
        silent = "can't be looked at: no reading since its task ended"
        for device in waiting.left:
            unknown = DeviceVerdict(device=device, verdict=Verdict.UNKNOWN, why=silent)
            waiting.verdicts.setdefault(device, unknown)
        self._end(key, waiting)

    def _end(self, key: Key, waiting: _Waiting) -> None:
        _cancel(waiting)
        del self._waiting[key]
        self._pids.pop(key.id, None)
        held = waiting.left
        seconds = self._monotonic() - waiting.since
        note = ""
        if held:
            why = in_words(waiting.verdicts.values())
            note = f"not free {seconds:.0f} s after its end: {why}"
        log.info(
            "devices are free" if not held else "devices are given up",
            allocation=key.id,
            generation=key.generation,
            seconds=round(seconds, 2),
            looks=waiting.looks,
            held=list(held),
        )
        self._emit(DevicesReleased(at=self._now(), key=key, held=held, note=note))

    # What is known.

    def _claim(self, key: Key, devices: tuple[str, ...]) -> Claim:
        claim = Claim(allocation=key.id, devices=devices, whole=True)
        pids = self._pids.get(key.id, frozenset[int]())
        running = self._spool.running(key)
        if running is not None and running.shim.boot_id == boot_id():
            pids |= {running.shim.pid, running.main.pid}
        intent = self._spool.intent(key)
        if intent is not None:
            claim = replace(
                claim,
                whole=is_whole(intent.allocation),
                baseline_memory_mib=intent.baseline_memory_mib,
            )
        return replace(claim, pids=pids)

    def _evidence(self, waiting: _Waiting, sight: Sight) -> Evidence:
        return Evidence(
            samples={
                device: sample
                for device, sample in sight.devices.items()
                if sight.fresh_at.get(device, float("-inf")) >= waiting.since
            },
            unlisted=frozenset(
                device.uuid
                for device in sight.inventory.devices
                if "processes" in device.unsupported
            ),
            tasks={allocation: reading.pids for allocation, reading in sight.tasks.items()},
            agent_pid=os.getpid(),
            parent_of=parent,
            name_of=name,
            silence=sight.inventory.device_message or "no fresh reading",
        )

    def _remember_processes(self, sight: Sight) -> None:
        """A process that has ended is of nobody any more; the device may list it all the same."""
        there = {
            process.pid for sample in sight.devices.values() for process in sample.processes or ()
        }
        all_known = all(
            device.uuid in sight.devices and sight.devices[device.uuid].processes is not None
            for device in sight.inventory.devices
        )
        for allocation, reading in sight.tasks.items():
            before = self._pids.get(allocation, frozenset[int]())
            now = (reading.pids & there) | (before & there if all_known else before)
            if now or before:
                self._pids[allocation] = now


def _cancel(waiting: _Waiting) -> None:
    waiting.give_up.cancel()
    if waiting.again is not None:
        waiting.again.cancel()
