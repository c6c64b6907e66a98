"""Whether tasks keep within their share of a device. Pure: what was seen in, what to say of it out.

Where nothing but good will keeps a task within its share (:mod:`agent.devices.shares`), what its
processes hold by NVML's word is compared with it. One that has a device whole can't overuse it. Two
readings in a row must say the same, the second looked up for the purpose: memory goes up and down
while a program starts and ends. What isn't known neither accuses nor clears anybody.

Who is on a device that it doesn't hold is told as well: ``CUDA_VISIBLE_DEVICES`` is a request, and
a program may unset it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.devices.shares import is_whole, memory_limit_mib
from agent.events import Key
from agent.samples.sights import Sight
from protocol.desired import DesiredAllocation
from protocol.task import Overuse as Policy
from telemetry.samples import DeviceSample

READINGS = 2
"""In a row, for a warning."""
TOLERANCE_MIB = 256
TOLERANCE_PERCENT = 5
"""Whichever is more: allocators round up, and drivers count in pages of 2 MiB."""
_APART_SECONDS = 1.0
"""Between two readings that count: what is gone after less is no overuse."""
_NEW_SECONDS = 6.0
"""A reading that is so much younger than another is another: processes are read every 5 s."""


class _Kind(StrEnum):
    MEMORY = "memory"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Of one attempt: what it does; empty when it's over. ``stop``: it has been told long ago."""

    key: Key
    what: str
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    said: tuple[Said, ...] = ()
    doubtful: frozenset[str] = frozenset()
    """Devices to look at anew before more is said."""


@dataclass(slots=True)
class _Doubt:
    readings: int = 0
    read_at: float = float("-inf")
    warned_at: float | None = None
    what: str = ""


_On = tuple[Key, str, _Kind]


class Overuses:
    """What is known against the attempts that run, from look to look. ``stop_seconds`` is from a
    warning to the stop: a program may come down by itself.
    """

    def __init__(self, *, stop_seconds: float) -> None:
        self._stop_seconds = stop_seconds
        self._doubts: dict[_On, _Doubt] = {}
        self._told: dict[Key, frozenset[tuple[str, _Kind]]] = {}
        """What each was warned of."""

    def judge(self, sight: Sight, running: Mapping[Key, DesiredAllocation]) -> Judgement:
        """Judge the attempts that run by one look at this machine."""
        self._doubts = {on: doubt for on, doubt in self._doubts.items() if on[0] in running}
        self._told = {key: told for key, told in self._told.items() if key in running}
        doubtful: set[str] = set()
        said: list[Said] = []
        for key, allocation in running.items():
            for device, kind, what in _findings(allocation, sight):
                if self._note((key, device, kind), what, sight):
                    doubtful.add(device)
            said += self._say(key, allocation, sight, doubtful)
        return Judgement(said=tuple(said), doubtful=frozenset(doubtful))

    def _note(self, on: _On, what: str | None, sight: Sight) -> bool:
        """Take one finding in; whether it wants another look before it's believed."""
        if not what:
            if what is not None:
                self._doubts.pop(on, None)
            return False
        now = sight.at.boot_seconds
        doubt = self._doubts.setdefault(on, _Doubt())
        doubt.what = what
        age = now - doubt.read_at
        if age >= _NEW_SECONDS or (age >= _APART_SECONDS and on[1] in sight.fresh_at):
            doubt.readings, doubt.read_at, age = doubt.readings + 1, now, 0.0
        if doubt.readings >= READINGS and doubt.warned_at is None:
            doubt.warned_at = now
        return doubt.warned_at is None and age >= _APART_SECONDS

    def _say(
        self, key: Key, allocation: DesiredAllocation, sight: Sight, doubtful: set[str]
    ) -> Iterator[Said]:
        warned = {
            (device, kind): doubt
            for (of, device, kind), doubt in self._doubts.items()
            if of == key and doubt.warned_at is not None
        }
        stops = allocation.launch.gpu_overuse is Policy.STOP
        for (device, kind), doubt in warned.items():
            if not stops or kind is not _Kind.MEMORY or doubt.warned_at is None:
                continue
            if sight.at.boot_seconds - doubt.warned_at < self._stop_seconds:
                continue
            if sight.at.boot_seconds - doubt.read_at > _APART_SECONDS:
                doubtful.add(device)  # nobody is stopped by what was so some seconds ago
                continue
            seconds = f"{self._stop_seconds:g} s after it was warned"
            yield Said(key=key, what=f"{seconds}, {doubt.what}", stop=True)
            return
        if warned.keys() != self._told.get(key, frozenset()):
            self._told[key] = frozenset(warned)
            words = "; ".join(doubt.what for doubt in warned.values())
            threat = any(kind is _Kind.MEMORY for _, kind in warned) and stops
            if threat:
                words += f" (it's stopped if that lasts for {self._stop_seconds:g} s)"
            yield Said(key=key, what=words)


def _findings(
    allocation: DesiredAllocation, sight: Sight
) -> Iterator[tuple[str, _Kind, str | None]]:
    """Device, kind, and what is wrong: empty for nothing, None where that isn't known."""
    reading = sight.tasks.get(allocation.id)
    pids = reading.pids if reading is not None else None
    sizes = {device.uuid: device.memory_mib for device in sight.inventory.devices}
    if not is_whole(allocation):
        for device, limit in memory_limit_mib(allocation, sizes).items():
            yield device, _Kind.MEMORY, _excess(device, limit, sight.devices.get(device), pids)
    for device, sample in sight.devices.items():
        if device not in allocation.devices:
            yield device, _Kind.STRANGER, _stranger(device, sample, pids)


def _excess(
    device: str, limit_mib: int, sample: DeviceSample | None, pids: Collection[int] | None
) -> str | None:
    if sample is None or sample.processes is None or pids is None:
        return None
    own = [process.memory_mib for process in sample.processes if process.pid in pids]
    used = sum(memory for memory in own if memory is not None)
    if used > limit_mib + max(TOLERANCE_MIB, limit_mib * TOLERANCE_PERCENT // 100):
        return f"it uses {used:,} MiB of {device}, and its share is {limit_mib:,} MiB"
    return None if None in own else ""


def _stranger(device: str, sample: DeviceSample, pids: Collection[int] | None) -> str | None:
    if sample.processes is None or pids is None:
        return None
    there = [str(process.pid) for process in sample.processes if process.pid in pids]
    if not there:
        return ""
    who = f"process{'' if len(there) == 1 else 'es'} {', '.join(there)}"
    return f"it uses {device}, which it doesn't hold ({who})"
