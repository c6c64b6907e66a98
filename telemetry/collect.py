"""Runs the probes; one that fails or hangs costs its own data and nothing else.

What is missing is None or left out, never a made-up zero: unknown isn't idle.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from telemetry.probes.base import DeviceProbe, DeviceReading, HostProbe, NoDevices
from telemetry.probes.host import HostReader
from telemetry.probes.nvidia_process import NvidiaProcess
from telemetry.probes.simulated import SimulatedProbe, parse_groups
from telemetry.samples import DeviceEvent, DeviceSample, HostInventory, HostSample, Inventory

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One round over all probes. ``faults`` says in words what could not be measured."""

    inventory: Inventory
    host: HostSample | None
    devices: tuple[DeviceSample, ...]
    events: tuple[DeviceEvent, ...] = ()
    """What happened to devices since the round before; told once."""
    faults: tuple[str, ...] = ()
    fresh_at: Mapping[str, float] = field(default_factory=dict)
    """See :class:`telemetry.probes.base.DeviceReading`."""


class Patient(Generic[_T]):
    """Runs one function on a thread of its own, and waits for it only so long.

    statvfs on a dead network file system never returns. Such a call keeps its thread, a daemon that
    doesn't hold up the end of the program; until it returns, no second one is started and there is
    no data.
    """

    def __init__(self, work: Callable[[], _T], *, deadline_seconds: float) -> None:
        self._work = work
        self._deadline_seconds = deadline_seconds
        self._answers: queue.SimpleQueue[_T | Exception] | None = None

    def take(self) -> _T:
        """The function's answer.

        Raises:
            TimeoutError: it hangs.
            Exception: whatever it raised.
        """
        if self._answers is None:
            self._answers = queue.SimpleQueue()
            threading.Thread(target=self._run, args=(self._answers,), daemon=True).start()
        try:
            answer = self._answers.get(timeout=self._deadline_seconds)
        except queue.Empty:
            raise TimeoutError(f"no answer within {self._deadline_seconds:g} s") from None
        self._answers = None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _run(self, answers: "queue.SimpleQueue[_T | Exception]") -> None:
        try:
            answers.put(self._work())
        except Exception as error:  # noqa: BLE001  it is handed to whoever waits
            answers.put(error)


class Collector:
    """All probes of one node. A call blocks at most for the probes' deadlines."""

    def __init__(
        self, *, host: HostProbe, devices: DeviceProbe, deadline_seconds: float = 5.0
    ) -> None:
        self._devices = devices
        self._reading = DeviceReading()
        self._host_inventory: HostInventory | None = None
        self._inventory = Patient(host.inventory, deadline_seconds=deadline_seconds)
        self._sample = Patient(host.sample, deadline_seconds=deadline_seconds)

    def collect(self, fresh: Iterable[str] = ()) -> Collection:
        """One round; of the devices ``fresh`` also what is read only now and then.

        Raises:
            OSError, TimeoutError: what the host has could not be read, and never was: without its
                capacities it can't be a node.
        """
        if self._host_inventory is None:
            self._host_inventory = self._inventory.take()
        faults: list[str] = []
        try:
            sample = self._sample.take()
        except Exception as error:  # noqa: BLE001  a probe may fail in any way; the others go on
            sample = None
            faults.append(f"host: {error}")
        try:
            self._reading = reading = self._devices.read(frozenset(fresh))
        except Exception as error:  # noqa: BLE001  as above
            # Devices don't vanish because nobody could look at them.
            message = f"devices: {error}"
            reading = replace(self._reading, samples=(), events=(), fresh_at={}, message=message)
            faults.append(message)
        return Collection(
            inventory=_inventory(self._host_inventory, reading),
            host=sample,
            devices=reading.samples,
            events=reading.events,
            faults=tuple(faults),
            fresh_at=reading.fresh_at,
        )

    def close(self) -> None:
        self._devices.close()


def make_collector(
    *,
    node: str,
    disk: Path,
    simulated_devices: str | None = None,
    nvml: bool = True,
    nvml_library: Path | None = None,
    wall_seconds: Callable[[], float] = time.time,
) -> Collector:
    """The collector for a node: simulated devices where asked for, NVML otherwise.

    Raises:
        ValueError: ``simulated_devices`` has no known form.
    """
    devices: DeviceProbe
    if simulated_devices:
        groups = parse_groups(simulated_devices)
        devices = SimulatedProbe(node=node, groups=groups, wall_seconds=wall_seconds)
    elif nvml:
        devices = NvidiaProcess(library=nvml_library)
    else:
        devices = NoDevices("NVML is switched off on this node")
    return Collector(host=HostReader(disk=disk, wall_seconds=wall_seconds), devices=devices)


def _inventory(host: HostInventory, reading: DeviceReading) -> Inventory:
    return Inventory(
        host=host,
        devices=reading.devices,
        driver_version=reading.driver_version,
        cuda_version=reading.cuda_version,
        device_source=reading.source,
        device_message=reading.message,
    )
