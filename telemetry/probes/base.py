"""What a probe is."""

from dataclasses import dataclass
from typing import Protocol

from telemetry.samples import DeviceEvent, DeviceInventory, DeviceSample, HostInventory, HostSample


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One look at all devices: what they are, and what they are doing.

    ``samples`` may lack devices of ``devices``: such a device is there, and nothing is known of its
    use.
    """

    devices: tuple[DeviceInventory, ...] = ()
    samples: tuple[DeviceSample, ...] = ()
    source: str = "none"
    driver_version: str | None = None
    cuda_version: str | None = None
    message: str | None = None
    events: tuple[DeviceEvent, ...] = ()
    """What happened since the reading before. Told once: whoever reads keeps them."""


class HostProbe(Protocol):
    """Looks at the host."""

    def inventory(self) -> HostInventory: ...

    def sample(self) -> HostSample: ...


class DeviceProbe(Protocol):
    """Looks at the accelerators. Absent hardware is a reading with a message, never an error."""

    def read(self) -> DeviceReading: ...

    def close(self) -> None: ...


class NoDevices:
    """A node on which devices are not looked for."""

    def __init__(self, message: str) -> None:
        self._message = message

    def read(self) -> DeviceReading:
        return DeviceReading(message=self._message)

    def close(self) -> None:
        return
