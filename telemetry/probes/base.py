"""What a probe is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
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
    fresh_at: Mapping[str, float] = field(default_factory=dict)
    """Devices of which everything was read anew because somebody had asked: when they had, on the
    monotonic clock. Of the others some values may be as old as their sensor's period."""


class HostProbe(Protocol):
    """Looks at the host."""

    def inventory(self) -> HostInventory: ...

    def sample(self) -> HostSample: ...


class DeviceProbe(Protocol):
    """Looks at the accelerators. Absent hardware is a reading with a message, never an error."""

    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        """One look; of the devices ``fresh`` also at what is read only now and then."""
        ...

    def close(self) -> None: ...


class NoDevices:
    """A node on which devices are not looked for."""

    def __init__(self, message: str) -> None:
        self._message = message

    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        del fresh
        return DeviceReading(message=self._message)

    def close(self) -> None:
        return
