"""Every metric of measurements by its name. Devices have the names that dcgm-exporter gives them,
so that dashboards made for it show ours too."""

from collections.abc import Mapping, Sequence

from app.db.samples.tables import Kind
from app.metrics.exposition import Family
from telemetry.columns import Column, Fold

_RATIO, _MILLI, _MICRO = 0.01, 1e3, 1e6


def _gauge(name: str, column: str, about: str, scale: float = 1) -> Family:
    return Family(name=name, about=about, column=column, scale=scale)


def _counter(name: str, column: str, about: str, scale: float = 1) -> Family:
    return Family(name=name, about=about, type="counter", column=column, scale=scale)


_DCGM = (
    _gauge("DCGM_FI_DEV_GPU_UTIL", "utilization_percent", "GPU utilization (in %)."),
    _gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "memory_bus_percent", "Memory utilization (in %)."),
    _gauge("DCGM_FI_DEV_FB_USED", "memory_used_mib", "Framebuffer memory used (in MiB)."),
    _gauge("DCGM_FI_DEV_FB_FREE", "memory_free_mib", "Framebuffer memory free (in MiB)."),
    _gauge("DCGM_FI_DEV_FB_RESERVED", "memory_reserved_mib", "Framebuffer reserved (in MiB)."),
    _gauge("DCGM_FI_DEV_POWER_USAGE", "power_watts", "Power draw (in W)."),
    _counter(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "energy_joules",
        "Total energy consumption since boot (in mJ).",
        _MILLI,
    ),
    _gauge("DCGM_FI_DEV_GPU_TEMP", "temperature_celsius", "GPU temperature (in C)."),
    _gauge("DCGM_FI_DEV_MEMORY_TEMP", "memory_temperature_celsius", "Memory temperature (in C)."),
    _gauge("DCGM_FI_DEV_FAN_SPEED", "fan_percent", "Fan speed (in %)."),
    _gauge("DCGM_FI_DEV_SM_CLOCK", "clock_sm_mhz", "SM clock frequency (in MHz)."),
    _gauge("DCGM_FI_DEV_MEM_CLOCK", "clock_memory_mhz", "Memory clock frequency (in MHz)."),
    _gauge("DCGM_FI_DEV_PSTATE", "performance_state", "Performance state, 0 is fastest."),
    _gauge(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", "throttle_reasons", "Throttle reasons, a bit mask."
    ),
    _counter(
        "DCGM_FI_DEV_POWER_VIOLATION",
        "power_violation_seconds",
        "Throttling duration due to power constraints (in us).",
        _MICRO,
    ),
    _counter(
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "thermal_violation_seconds",
        "Throttling duration due to thermal constraints (in us).",
        _MICRO,
    ),
    _counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "pcie_replays", "Total number of PCIe retries."),
    _counter("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "ecc_corrected", "Single-bit volatile ECC errors."),
    _counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "ecc_uncorrected", "Double-bit volatile ECC errors."),
    _gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", "memory_repair_pending", "Rows wait for a reset."),
    _gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "memory_repair_failed", "Remapping of rows failed."),
    _gauge("DCGM_FI_PROF_SM_ACTIVE", "sm_active_percent", "Ratio of SMs active.", _RATIO),
    _gauge("DCGM_FI_PROF_SM_OCCUPANCY", "sm_occupancy_percent", "Ratio of warps.", _RATIO),
    _gauge(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "tensor_active_percent",
        "Ratio of cycles the tensor pipe is active.",
        _RATIO,
    ),
    _gauge(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "memory_bandwidth_percent",
        "Ratio of cycles the memory interface is active.",
        _RATIO,
    ),
)


def _own(prefix: str, columns: Sequence[Column]) -> tuple[Family, ...]:
    """Of each column one metric by its own name."""
    return tuple(
        _counter(f"{prefix}_{column.name}_total", column.name, "Counter of the agent's.")
        if column.fold is Fold.COUNTER
        else _gauge(f"{prefix}_{column.name}", column.name, f"As measured: {column.fold}.")
        for column in columns
    )


_WITH_DCGM = {family.column for family in _DCGM}
FAMILIES: Mapping[Kind, tuple[Family, ...]] = {
    Kind.HOST: _own("stowplan_node", Kind.HOST.columns),
    Kind.DEVICE: (
        *_DCGM,
        *_own(
            "stowplan_device",
            [column for column in Kind.DEVICE.columns if column.name not in _WITH_DCGM],
        ),
    ),
    Kind.TASK: _own("stowplan_task", Kind.TASK.columns),
}
