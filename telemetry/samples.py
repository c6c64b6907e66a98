"""What a machine is and what it is doing: plain values, no I/O.

Every quantity carries its unit in its name. ``None`` means "unknown" (no such sensor, no right to
read it, a lost device) and is never to be read as zero, idle or free. Counters are cumulative;
rates are made by whoever keeps two samples (:mod:`telemetry.stats`), so that a restarted agent
costs nothing.
"""

from dataclasses import dataclass, field

# pydantic reads this attribute when these dataclasses travel (see protocol/): unknown words are
# refused, not dropped. It is a plain dict, so this module needs nothing but the standard library.
_WIRE = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInventory:
    """What a host has, within its cgroup limits; measured once a (re)start."""

    __pydantic_config__ = _WIRE

    hostname: str
    boot_id: str
    kernel: str
    cpu_model: str | None = None
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    network_mbps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInventory:
    """One accelerator. ``uuid`` is its identity: the index order isn't stable across reboots."""

    __pydantic_config__ = _WIRE

    uuid: str
    index: int
    model: str
    memory_mib: int
    numa: int | None = None
    pci_bus_id: str | None = None
    compute_capability: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    """Peer UUID -> kind of the best path: nvlink, pix, pxb, phb, node or sys."""
    healthy: bool = True
    fault: str | None = None
    """Why the device takes no new task; None while it's healthy."""
    simulated: bool = False
    """True for a device that exists only as an accounting unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A host and its devices, and how the devices were found."""

    __pydantic_config__ = _WIRE

    host: HostInventory
    devices: tuple[DeviceInventory, ...] = ()
    driver_version: str | None = None
    cuda_version: str | None = None
    device_source: str = "none"
    """``nvml``, ``simulated`` or ``none``."""
    device_message: str | None = None
    """Why there are no devices, or what is wrong with their driver; None when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One look at a host. ``*_seconds`` and ``*_bytes`` are counters since boot."""

    __pydantic_config__ = _WIRE

    taken_at_ms: int
    cpu_user_seconds: float
    cpu_system_seconds: float
    cpu_idle_seconds: float
    cpu_iowait_seconds: float | None = None
    cpu_steal_seconds: float | None = None
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    memory_total_mib: int
    memory_available_mib: int
    swap_total_mib: int | None = None
    swap_used_mib: int | None = None
    disk_free_mib: int | None = None
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    pressure_cpu_some_percent: float | None = None
    pressure_memory_some_percent: float | None = None
    pressure_memory_full_percent: float | None = None
    pressure_io_some_percent: float | None = None
    pressure_io_full_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """A process that holds a device."""

    __pydantic_config__ = _WIRE

    pid: int
    memory_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSample:
    """One look at a device."""

    __pydantic_config__ = _WIRE

    uuid: str
    taken_at_ms: int
    utilization_percent: int | None = None
    """Percent of the last period in which some kernel ran; not how much of the chip was used."""
    memory_used_mib: int | None = None
    memory_reserved_mib: int | None = None
    memory_free_mib: int | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: int | None = None
    clock_sm_mhz: int | None = None
    clock_memory_mhz: int | None = None
    throttle_reasons: int | None = None
    """Bit mask as NVML gives it (nvmlClocksEventReason*)."""
    processes: tuple[DeviceProcess, ...] | None = None
    simulated: bool = False
