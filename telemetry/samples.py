"""What a machine is and what it is doing: plain values, no I/O.

Every quantity carries its unit in its name. ``None`` means "unknown" (no such sensor, no right to
read it, a lost device) and is never to be read as zero, idle or free. Counters are cumulative;
rates are made by whoever keeps two samples (:mod:`telemetry.stats`), so that a restarted agent
costs nothing.
"""

from dataclasses import dataclass, field
from enum import StrEnum

# pydantic reads this attribute when these dataclasses travel (see protocol/): unknown words are
# refused, not dropped. It is a plain dict, so this module needs nothing but the standard library.
_WIRE = {"extra": "forbid"}

SIMULATED_PREFIX = "SIM-"
"""Of the UUIDs of simulated devices: no hardware is behind them, they only count."""


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
    parent: str | None = None
    """UUID of the GPU that this MIG device is a part of; such a GPU is no device itself."""
    serial: str | None = None
    power_limit_watts: float | None = None
    clock_sm_max_mhz: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
    unsupported: tuple[str, ...] = ()
    """Fields of :class:`DeviceSample` that this device has no sensor for."""


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
class DiskCounters:
    """One disk since boot."""

    __pydantic_config__ = _WIRE

    name: str
    read_bytes: int
    written_bytes: int
    busy_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCounters:
    """One network interface, or one InfiniBand port, since it came up."""

    __pydantic_config__ = _WIRE

    name: str
    received_bytes: int
    sent_bytes: int
    errors: int | None = None
    drops: int | None = None
    speed_mbps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """One look at a host. ``*_seconds`` and ``*_bytes`` are counters since boot.

    The fields that are charted are in :data:`telemetry.columns.HOST`; disks and networks one by one
    are for people who look now.
    """

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
    memory_cached_mib: int | None = None
    memory_dirty_mib: int | None = None
    swap_total_mib: int | None = None
    swap_used_mib: int | None = None
    huge_pages_total_mib: int | None = None
    huge_pages_free_mib: int | None = None
    disk_total_mib: int | None = None
    """Of the file system with the agent's state directory, as are the next two."""
    disk_free_mib: int | None = None
    disk_free_inodes: int | None = None
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    disk_busy_seconds: float | None = None
    """Of the busiest disk."""
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    network_errors: int | None = None
    network_drops: int | None = None
    infiniband_received_bytes: int | None = None
    infiniband_sent_bytes: int | None = None
    pressure_cpu_some_percent: float | None = None
    pressure_memory_some_percent: float | None = None
    pressure_memory_full_percent: float | None = None
    pressure_io_some_percent: float | None = None
    pressure_io_full_percent: float | None = None
    clock_synchronized: int | None = None
    """1 when the kernel says that its clock follows another one, 0 when it says not."""
    agent_cpu_seconds: float | None = None
    agent_memory_mib: float | None = None
    """What measuring costs: the agent's own processes, its NVML process included."""
    disks: tuple[DiskCounters, ...] = ()
    networks: tuple[NetworkCounters, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """A process that holds a device."""

    __pydantic_config__ = _WIRE

    pid: int
    memory_mib: int | None = None
    utilization_percent: int | None = None
    """Share of the device's compute time that this process used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSample:
    """One look at a device. ``*_bytes``, ``*_seconds``, ``*_joules``, ecc and replays are counters.

    The fields that are charted are in :data:`telemetry.columns.DEVICE`.
    """

    __pydantic_config__ = _WIRE

    uuid: str
    taken_at_ms: int
    utilization_percent: int | None = None
    """Percent of the last period in which some kernel ran; not how much of the chip was used."""
    memory_bus_percent: int | None = None
    """Percent of the last period in which memory was read or written; not how much is in use."""
    memory_used_mib: int | None = None
    memory_reserved_mib: int | None = None
    memory_free_mib: int | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: int | None = None
    memory_temperature_celsius: int | None = None
    fan_percent: int | None = None
    clock_sm_mhz: int | None = None
    clock_memory_mhz: int | None = None
    performance_state: int | None = None
    """0 (fastest) to 15."""
    throttle_reasons: int | None = None
    """Bit mask as NVML gives it (nvmlClocksEventReason*)."""
    power_violation_seconds: float | None = None
    thermal_violation_seconds: float | None = None
    """For how long clocks were held down, by power and by heat."""
    pcie_sent_bytes: int | None = None
    pcie_received_bytes: int | None = None
    pcie_replays: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    nvlink_sent_bytes: int | None = None
    nvlink_received_bytes: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    """Memory errors since the driver was loaded."""
    remapped_rows: int | None = None
    memory_repair_pending: int | None = None
    """1: rows or pages wait for a reset to be taken out of use."""
    memory_repair_failed: int | None = None
    sm_active_percent: float | None = None
    sm_occupancy_percent: float | None = None
    tensor_active_percent: float | None = None
    memory_bandwidth_percent: float | None = None
    """These four are of GPM (Hopper and later), MIG devices included."""
    processes: tuple[DeviceProcess, ...] | None = None
    process_count: int | None = None
    foreign_process_count: int | None = None
    foreign_memory_mib: int | None = None
    """Processes that belong to no task of this node's agent, and what they hold: filled in by the
    agent, who knows its tasks."""
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSample:
    """One look at what a replica of a task uses. ``*_seconds``, ``*_bytes``, ``oom_kills`` are
    counters.

    The fields that are charted are in :data:`telemetry.columns.TASK`.
    """

    __pydantic_config__ = _WIRE

    allocation: str
    taken_at_ms: int
    cpu_seconds: float | None = None
    cpu_throttled_seconds: float | None = None
    memory_mib: float | None = None
    """Working set: what can't be taken back without hurting it."""
    read_bytes: int | None = None
    written_bytes: int | None = None
    process_count: int | None = None
    oom_kills: int | None = None
    gpu_process_count: int | None = None
    """Its processes that hold one of its devices; 0 is held but not used."""
    gpu_memory_mib: float | None = None
    """On the one of its devices where it holds most."""
    gpu_utilization_percent: float | None = None
    """Mean over its devices."""


class DeviceEventKind(StrEnum):
    """What the driver, or the agent, tells of a device once and not as a reading."""

    XID = "xid"
    """The driver's error; ``code`` is its number."""
    LOST = "lost"
    RECOVERED = "recovered"
    UNRESPONSIVE = "unresponsive"
    """NVML doesn't answer, for the whole node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """Something that happened to a device (``uuid``; None: to all of them, or to the driver)."""

    __pydantic_config__ = _WIRE

    at_ms: int
    kind: DeviceEventKind
    uuid: str | None = None
    code: int | None = None
    message: str = ""
