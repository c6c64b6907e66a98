"""Reads all NVIDIA devices of this machine.

A machine without library, driver or GPU is a CPU node with a message, not an error. A GPU that
falls off the bus becomes unhealthy and the others go on; it's looked for again by its UUID.
"""

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia.binding import (
    DeviceLostError,
    DriverConfusedError,
    Nvml,
    NvmlUnavailableError,
    UnansweredError,
    open_nvml,
)
from telemetry.probes.nvidia.discovery import Discoverer, Discovery
from telemetry.probes.nvidia.events import EventWatcher
from telemetry.probes.nvidia.reader import GpuReader, RepartitionedError
from telemetry.samples import DeviceEvent, DeviceEventKind, DeviceInventory, DeviceSample

# Reopening NVML costs seconds where the driver isn't kept loaded: ever more rarely, if in vain.
REDISCOVER_SECONDS = 60.0
REDISCOVER_MAX_SECONDS = 600.0


class NvidiaProbe:
    """Not for use from several threads; ``emit`` may be called on another one."""

    def __init__(
        self,
        *,
        emit: Callable[[DeviceEvent], None],
        known: Iterable[DeviceInventory] = (),
        sysfs: Path = Path("/sys"),
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        """``known`` are the devices that were there before: one that isn't any more is unhealthy,
        not forgotten."""
        self._emit = emit
        self._sysfs = sysfs
        self._wall_seconds = wall_seconds
        self._nvml: Nvml | None = None
        self._readers: list[GpuReader] = []
        self._watcher: EventWatcher | None = None
        self._watcher_replaced = False
        self._watch_fault: str | None = None
        self._known = {d.uuid: replace(d, healthy=True, fault=None) for d in known}
        self._faults = {d.uuid: d.fault or "unhealthy" for d in known if not d.healthy}
        self._unusable: str | None = None
        self._complaints: list[str] = []
        self._is_complete = True
        self._cuda: str | None = None
        self._discover_due = float("-inf")
        self._pause_seconds = REDISCOVER_SECONDS
        self._reopen = False
        self._confused = False

    def read(self, now: float, *, fresh: Collection[str] = ()) -> DeviceReading:
        """One look; ``now`` in seconds of a clock that only goes forward. ``fresh`` names devices
        that are looked at anew: see :class:`.pace.PacedReader`."""
        is_lacking = self._nvml is None or self._faults or not self._is_complete
        if self._reopen or (is_lacking and now >= self._discover_due):
            self._discover(now)
        samples = self._samples(now, fresh)
        if self._nvml is not None:
            self._heed_watcher(self._nvml, now)
            if not self._faults and self._is_complete:
                self._pause_seconds = REDISCOVER_SECONDS
        devices = sorted(map(self._device, self._known), key=lambda device: device.index)
        return DeviceReading(
            devices=tuple(devices),
            samples=tuple(samples),
            source="nvml" if self._known else "none",
            driver_version=self._nvml.driver if self._nvml is not None else None,
            cuda_version=self._cuda,
            message=self._message(),
        )

    def close(self) -> None:
        """Let go of the driver, which can't reset a GPU that somebody has open.

        Raises:
            StuckError: it hangs; only the end of the process can help.
        """
        nvml, self._nvml = self._nvml, None
        watcher, self._watcher = self._watcher, None
        readers, self._readers = self._readers, []
        if nvml is None:
            return
        errors = (nvml.binding.NVMLError, DeviceLostError, DriverConfusedError)
        if watcher is not None:
            with suppress(*errors):
                watcher.stop()
        for reader in readers:
            with suppress(*errors):
                reader.close(nvml)
        with suppress(*errors):
            nvml.binding.nvmlShutdown()

    def _message(self) -> str | None:
        if self._unusable is not None:
            return self._unusable
        if not self._known and not self._complaints:
            return "the driver has no GPU"
        return "; ".join(self._complaints) or None

    def _device(self, uuid: str) -> DeviceInventory:
        device, fault = self._known[uuid], self._unusable or self._faults.get(uuid)
        return device if fault is None else replace(device, healthy=False, fault=fault)

    # Finding devices, and finding them again.

    def _discover(self, now: float) -> None:
        """(Re)open NVML and find all GPUs; those known before that are gone stay, unhealthy."""
        self._discover_due = now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, REDISCOVER_MAX_SECONDS)
        self._reopen = self._watcher_replaced = False
        self.close()
        try:
            nvml = Nvml(open_nvml())
            self._nvml = nvml
            nvml.driver = nvml.ask("*", "nvmlSystemGetDriverVersion")
            self._cuda = _cuda_version(nvml.ask("*", "nvmlSystemGetCudaDriverVersion_v2"))
            indices = {device.uuid: device.index for device in self._known.values()}
            found = Discoverer(nvml, sysfs=self._sysfs, indices=indices).discover()
        except (
            NvmlUnavailableError,
            DeviceLostError,
            DriverConfusedError,
            UnansweredError,
        ) as error:
            self._cannot_be_used(str(error))
            return
        if self._unusable is not None and self._known:
            self._tell(DeviceEventKind.RECOVERED, None, "NVML can be used again")
        self._unusable = None
        self._complaints, self._is_complete = list(found.complaints), found.is_complete
        self._take_stock(found)
        count = len(found.gpus)
        self._readers = [
            GpuReader(gpu, stagger=(i + 1) / count, now=now) for i, gpu in enumerate(found.gpus)
        ]
        self._watch(nvml)

    def _cannot_be_used(self, why: str) -> None:
        if self._unusable is None and self._known:
            self._tell(DeviceEventKind.UNRESPONSIVE, None, why)
        self._unusable = why
        self.close()

    def _take_stock(self, found: Discovery) -> None:
        opened = {gpu.uuid for gpu in found.gpus}
        devices = {part.device.uuid: part.device for gpu in found.gpus for part in gpu.parts}
        for uuid, device in list(self._known.items()):
            if uuid in devices:
                continue
            if (device.parent or uuid) in opened:
                # Its GPU is there, divided in another way: this device is no more.
                del self._known[uuid]
                self._faults.pop(uuid, None)
            else:
                why = "; ".join(found.complaints)
                self._lose([uuid], why or "NVML doesn't list this GPU any more")
        for uuid, device in devices.items():
            before = self._known.get(uuid)
            unsupported = before.unsupported if before is not None else ()
            self._known[uuid] = replace(device, unsupported=unsupported)

    def _lose(self, uuids: Iterable[str], why: str) -> None:
        for uuid in uuids:
            if uuid not in self._faults:
                self._faults[uuid] = why
                self._tell(DeviceEventKind.LOST, uuid, why)

    def _tell(self, kind: DeviceEventKind, uuid: str | None, message: str) -> None:
        at_ms = int(self._wall_seconds() * 1000)
        self._emit(DeviceEvent(at_ms=at_ms, kind=kind, uuid=uuid, message=message))

    # The driver's events.

    def _heed_watcher(self, nvml: Nvml, now: float) -> None:
        watcher = self._watcher
        if watcher is None:
            return
        if watcher.repartitioned:
            self._reopen = True
        if watcher.fault is not None:
            self._replace_watcher(nvml, watcher, now)
        elif self._watch_fault is not None and watcher.has_waited:
            self._watch_fault = None
            self._tell(DeviceEventKind.RECOVERED, None, "the driver's events come again")

    def _replace_watcher(self, nvml: Nvml, watcher: EventWatcher, now: float) -> None:
        """A lost GPU ends the wait of all: they are waited for again without it, once."""
        is_expected = watcher.lost_gpu and not self._watcher_replaced
        if not is_expected and watcher.fault != self._watch_fault:
            self._watch_fault = watcher.fault
            self._tell(DeviceEventKind.UNRESPONSIVE, None, watcher.fault or "")
        if not self._watcher_replaced:
            self._watcher_replaced = True
            watcher.stop()
            self._watch(nvml)
        elif now >= self._discover_due:
            self._reopen = True

    def _watch(self, nvml: Nvml) -> None:
        gpus = [reader.gpu for reader in self._readers]
        self._watcher = EventWatcher(nvml, gpus, emit=self._emit, wall_seconds=self._wall_seconds)

    # Reading them.

    def _samples(self, now: float, fresh: Collection[str]) -> list[DeviceSample]:
        samples: list[DeviceSample] = []
        confused = False
        for reader in list(self._readers):
            try:
                self._read(reader, now, fresh)
            except DeviceLostError as error:
                self._give_up(reader, str(error), now)
            except RepartitionedError:
                self._reopen = True
            except DriverConfusedError as error:
                confused = True
                if self._confused:
                    self._give_up(reader, f"{error}, also after reopening NVML", now)
                else:
                    self._reopen = True
            else:
                samples += reader.samples(int(self._wall_seconds() * 1000))
        self._confused = confused
        return samples

    def _read(self, reader: GpuReader, now: float, fresh: Collection[str]) -> None:
        assert self._nvml is not None  # noqa: S101  readers are there only while it's open
        self._complaints += reader.read(self._nvml, now, fresh=fresh)
        for uuid in reader.uuids:
            if self._faults.pop(uuid, None) is not None:
                self._tell(DeviceEventKind.RECOVERED, uuid, "it answers again")
        for uuid, fields in reader.unsupported().items():
            if self._known[uuid].unsupported != fields:
                self._known[uuid] = replace(self._known[uuid], unsupported=fields)

    def _give_up(self, reader: GpuReader, why: str, now: float) -> None:
        self._readers.remove(reader)
        self._lose(reader.uuids, why)
        self._discover_due = now + self._pause_seconds


def _cuda_version(number: int | None) -> str | None:
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
