"""What is read of a device, by which call, and how often.

A sensor's function gives its fields' values, in order; None when the device has no such sensor.
PCIe throughput is read from counters: nvmlDeviceGetPcieThroughput blocks the driver for 20 ms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from telemetry.probes.nvidia import gpm
from telemetry.probes.nvidia.binding import Nvml
from telemetry.probes.nvidia.processes import processes_of

_MIB = 1 << 20
_KIB = 1 << 10


class Tier(IntEnum):
    """How often a sensor is read. The driver answers one call at a time, whoever asks: the costly
    ones would stall the programs on the device (MangoHud#2104)."""

    FAST = 0
    MEDIUM = 1
    SLOW = 2
    RARE = 3
    """Only for what turned out to be too slow for any other."""


PERIOD_SECONDS = {Tier.FAST: 0.0, Tier.MEDIUM: 5.0, Tier.SLOW: 60.0, Tier.RARE: 600.0}


@dataclass(slots=True)
class Asked:
    """A device, as sensors see it."""

    key: str
    handle: Any
    gpm: gpm.GpmReader


Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sensor:
    name: str
    tier: Tier
    fields: tuple[str, ...]
    read: Callable[[Nvml, Asked], Values | None]


@dataclass(frozen=True, slots=True)
class Memory:
    total_mib: int
    used_mib: int
    reserved_mib: int | None
    free_mib: int


def memory_of(nvml: Nvml, key: str, handle: Any) -> Memory | None:
    """Memory by the second form of the call, which tells used from reserved; by the first on old
    drivers, whose "used" has both in it.

    Raises:
        DeviceLostError, DriverConfusedError, UnansweredError: as :meth:`Nvml.ask`.
    """
    version = getattr(nvml.binding, "nvmlMemory_v2", None)
    if version is not None:
        info = nvml.ask(
            key, "nvmlDeviceGetMemoryInfo", handle, version=version, symbol="MemoryInfo_v2"
        )
        if info is not None:
            return Memory(
                info.total // _MIB, info.used // _MIB, info.reserved // _MIB, info.free // _MIB
            )
    info = nvml.ask(key, "nvmlDeviceGetMemoryInfo", handle)
    if info is None:
        return None
    return Memory(info.total // _MIB, info.used // _MIB, None, info.free // _MIB)


def _utilization(nvml: Nvml, of: Asked) -> Values | None:
    rates = nvml.ask(of.key, "nvmlDeviceGetUtilizationRates", of.handle)
    return (rates.gpu, rates.memory) if rates is not None else None


def _memory(nvml: Nvml, of: Asked) -> Values | None:
    memory = memory_of(nvml, of.key, of.handle)
    return (memory.used_mib, memory.reserved_mib, memory.free_mib) if memory is not None else None


def _thousandth(function: str) -> Callable[[Nvml, Asked], Values | None]:
    def read(nvml: Nvml, of: Asked) -> Values | None:
        value = nvml.ask(of.key, function, of.handle)
        return (value / 1000,) if value is not None else None

    return read


def _plain(function: str, *constants: str) -> Callable[[Nvml, Asked], Values | None]:
    """One call, one number; ``constants`` are the binding's names of the arguments."""

    def read(nvml: Nvml, of: Asked) -> Values | None:
        arguments = [getattr(nvml.binding, constant) for constant in constants]
        return (nvml.ask(of.key, function, of.handle, *arguments),)

    return read


def _throttle(nvml: Nvml, of: Asked) -> Values | None:
    reasons = nvml.ask(of.key, "nvmlDeviceGetCurrentClocksEventReasons", of.handle)
    if reasons is None:  # the name that drivers before 535 know
        reasons = nvml.ask(of.key, "nvmlDeviceGetCurrentClocksThrottleReasons", of.handle)
    return (reasons,)


def _performance_state(nvml: Nvml, of: Asked) -> Values | None:
    state = nvml.ask(of.key, "nvmlDeviceGetPerformanceState", of.handle)
    return (state if state is not None and state <= 15 else None,)  # 32 is "unknown"


def _processes(nvml: Nvml, of: Asked) -> Values | None:
    processes = processes_of(nvml, of.key, of.handle)
    return (processes, len(processes)) if processes is not None else None


def _gpm(nvml: Nvml, of: Asked) -> Values | None:
    return of.gpm.read(nvml, of.key)


# A field of nvmlDeviceGetFieldValues: the binding's name for it, ours, what one count is worth.
_ALL_LINKS = 0xFFFFFFFF
_FIELD_VALUES: tuple[tuple[str, str, float], ...] = (
    ("NVML_FI_DEV_MEMORY_TEMP", "memory_temperature_celsius", 1),
    ("NVML_FI_DEV_PCIE_REPLAY_COUNTER", "pcie_replays", 1),
    ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", "nvlink_sent_bytes", _KIB),
    ("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", "nvlink_received_bytes", _KIB),
    ("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", "pcie_sent_bytes", 1),
    ("NVML_FI_DEV_PCIE_COUNT_RX_BYTES", "pcie_received_bytes", 1),
    ("NVML_FI_DEV_PERF_POLICY_POWER", "power_violation_seconds", 1e-9),
    ("NVML_FI_DEV_PERF_POLICY_THERMAL", "thermal_violation_seconds", 1e-9),
)


def _field_values(nvml: Nvml, of: Asked) -> Values | None:
    pynvml = nvml.binding
    wanted = [
        (getattr(pynvml, name), _ALL_LINKS if "NVLINK" in name else 0)
        for name, _, _ in _FIELD_VALUES
    ]
    answers = nvml.ask(of.key, "nvmlDeviceGetFieldValues", of.handle, wanted)
    if answers is None:
        return None
    members = _members(pynvml)
    values = []
    for answer, (_, field, worth) in zip(answers, _FIELD_VALUES, strict=True):
        value = None
        member = members.get(answer.valueType)
        if answer.nvmlReturn == 0 and member is not None:
            value = getattr(answer.value, member) * worth
            # 32 bits of bytes are full within a fifth of a second on a modern bus: no counter.
            if field.endswith("_bytes") and worth == 1 and member == "uiVal":
                value = None
        values.append(value)
    return tuple(values)


def _members(pynvml: Any) -> dict[int, str]:
    """Which member of the union a value of a type is in."""
    return {
        pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
        pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    }


def _ecc(nvml: Nvml, of: Asked) -> Values | None:
    pynvml = nvml.binding
    return tuple(
        nvml.ask(
            of.key,
            "nvmlDeviceGetTotalEccErrors",
            of.handle,
            kind,
            pynvml.NVML_VOLATILE_ECC,
            symbol=f"nvmlDeviceGetTotalEccErrors {kind}",
        )
        for kind in (
            pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        )
    )


def _repair(nvml: Nvml, of: Asked) -> Values | None:
    rows = nvml.ask(of.key, "nvmlDeviceGetRemappedRows", of.handle)
    if rows is not None:
        corrected, uncorrected, pending, failed = rows
        return (corrected + uncorrected, pending, failed)
    # Before Ampere, pages were retired instead.
    return (None, nvml.ask(of.key, "nvmlDeviceGetRetiredPagesPendingStatus", of.handle), None)


SENSORS = (
    Sensor("utilization", Tier.FAST, ("utilization_percent", "memory_bus_percent"), _utilization),
    Sensor(
        "memory",
        Tier.FAST,
        ("memory_used_mib", "memory_reserved_mib", "memory_free_mib"),
        _memory,
    ),
    Sensor("power", Tier.FAST, ("power_watts",), _thousandth("nvmlDeviceGetPowerUsage")),
    Sensor(
        "temperature",
        Tier.FAST,
        ("temperature_celsius",),
        _plain("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
    ),
    Sensor(
        "SM clock",
        Tier.FAST,
        ("clock_sm_mhz",),
        _plain("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
    ),
    Sensor(
        "memory clock",
        Tier.FAST,
        ("clock_memory_mhz",),
        _plain("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
    ),
    Sensor("throttling", Tier.FAST, ("throttle_reasons",), _throttle),
    Sensor("performance state", Tier.FAST, ("performance_state",), _performance_state),
    Sensor(
        "energy",
        Tier.MEDIUM,
        ("energy_joules",),
        _thousandth("nvmlDeviceGetTotalEnergyConsumption"),
    ),
    Sensor("processes", Tier.MEDIUM, ("processes", "process_count"), _processes),
    Sensor("counters", Tier.MEDIUM, tuple(field for _, field, _ in _FIELD_VALUES), _field_values),
    Sensor("GPM", Tier.MEDIUM, gpm.FIELDS, _gpm),
    Sensor("ECC", Tier.SLOW, ("ecc_corrected", "ecc_uncorrected"), _ecc),
    Sensor(
        "memory repair",
        Tier.SLOW,
        ("remapped_rows", "memory_repair_pending", "memory_repair_failed"),
        _repair,
    ),
    Sensor(
        "PCIe generation",
        Tier.SLOW,
        ("pcie_generation",),
        _plain("nvmlDeviceGetCurrPcieLinkGeneration"),
    ),
    Sensor("PCIe width", Tier.SLOW, ("pcie_width",), _plain("nvmlDeviceGetCurrPcieLinkWidth")),
    Sensor("fan", Tier.SLOW, ("fan_percent",), _plain("nvmlDeviceGetFanSpeed")),
)
FIELDS = frozenset(field for sensor in SENSORS for field in sensor.fields)

USE_SENSORS = frozenset({"memory", "processes"})
"""By their names: who uses a device, and how much of it."""

# What a MIG device has of its own. Of the rest it has what is the same everywhere on the GPU:
# copies of what adds up, such as power, would count once for each MIG device.
MIG_SENSORS = tuple(s for s in SENSORS if s.name in ("memory", "processes", "GPM"))
DIVIDED_SENSORS = tuple(s for s in SENSORS if s not in MIG_SENSORS)
DIVIDED_FIELDS = frozenset(
    {
        "temperature_celsius",
        "memory_temperature_celsius",
        "clock_sm_mhz",
        "clock_memory_mhz",
        "performance_state",
        "throttle_reasons",
        "power_violation_seconds",
        "thermal_violation_seconds",
        "memory_repair_pending",
        "memory_repair_failed",
        "pcie_generation",
        "pcie_width",
        "fan_percent",
    }
)
