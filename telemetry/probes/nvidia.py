"""NVIDIA GPUs by NVML, through ``pynvml`` of the package nvidia-ml-py.

A machine without library, driver or GPU is a CPU node with a message, not an error. A sensor that a
GPU lacks is None and isn't asked for again. A GPU that falls off the bus becomes unhealthy and the
others go on. NVML may hang for ever or end the process that calls it: the agent runs this probe in
a process of its own (:mod:`telemetry.probes.nvidia_process`).
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia_links import links_between
from telemetry.samples import DeviceInventory, DeviceProcess, DeviceSample

_MIB = 1 << 20
REDISCOVER_SECONDS = 60.0
# Two driver calls of 4.5 ms in all, under the driver's global lock (MangoHud#2104): not at every
# sample.
PROCESSES_SECONDS = 5.0
# Drivers from 535.43 to before 535.86 fill a shorter struct than the binding reads: scrambled pids
# (nvitop#75).
_SCRAMBLED_PIDS = ((535, 43), (535, 86))


class NvmlUnavailableError(Exception):
    """NVML can't be used on this machine now; the text says why, for people."""


class DeviceLostError(Exception):
    """A GPU doesn't answer any more, or must be reset first."""


@dataclass(slots=True)
class _Gpu:
    handle: Any
    device: DeviceInventory
    processes: tuple[DeviceProcess, ...] | None = None
    processes_due: float = 0.0


@dataclass(slots=True)
class Nvml:
    """The binding, with a memory of what can't be asked. ``None`` means unknown."""

    binding: ModuleType
    _missing: set[str] = field(default_factory=set)
    _unsupported: set[tuple[str, str]] = field(default_factory=set)

    def ask(self, key: str, function: str, *arguments: Any, memo: str = "", **named: Any) -> Any:
        """The function's answer about the GPU ``key``, or None where there is none to be had.

        ``memo`` tells apart the forms of one function that are different symbols in the library:
        that the driver lacks one of them says nothing of the other.

        Raises:
            DeviceLostError: the GPU is gone.
        """
        symbol = function + memo
        if symbol in self._missing or (key, symbol) in self._unsupported:
            return None
        pynvml = self.binding
        try:
            return getattr(pynvml, function)(*arguments, **named)
        except AttributeError:
            self._missing.add(symbol)  # a binding older than we are
        except UnicodeDecodeError:
            return None
        except pynvml.NVMLError as error:
            # NVMLError defines __eq__ without __hash__: compare the number, never the error.
            match error.value:
                case pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                    self._missing.add(symbol)
                case pynvml.NVML_ERROR_NOT_SUPPORTED | pynvml.NVML_ERROR_NO_PERMISSION:
                    self._unsupported.add((key, symbol))
                case (
                    pynvml.NVML_ERROR_GPU_IS_LOST
                    | pynvml.NVML_ERROR_RESET_REQUIRED
                    | pynvml.NVML_ERROR_GPU_NOT_FOUND
                    | pynvml.NVML_ERROR_UNKNOWN
                ):
                    raise DeviceLostError(f"NVML: {error}") from None
                case _:
                    return None
        return None


class NvidiaProbe:
    """Reads all GPUs of this machine. Not for use from several threads."""

    def __init__(
        self,
        *,
        sysfs: Path = Path("/sys"),
        boot_seconds: Callable[[], float] = time.monotonic,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._sysfs = sysfs
        self._boot_seconds = boot_seconds
        self._wall_seconds = wall_seconds
        self._nvml: Nvml | None = None
        self._gpus: dict[str, _Gpu] = {}
        self._known: dict[str, DeviceInventory] = {}
        self._faults: dict[str, str] = {}
        self._message: str | None = None
        self._driver: str | None = None
        self._cuda: str | None = None
        self._discover_due = float("-inf")

    def read(self) -> DeviceReading:
        now = self._boot_seconds()
        if (self._nvml is None or self._faults) and now >= self._discover_due:
            self._discover(now)
        samples = [s for gpu in list(self._gpus.values()) if (s := self._sample(gpu, now))]
        return DeviceReading(
            devices=tuple(sorted(map(self._device, self._known), key=lambda d: d.index)),
            samples=tuple(samples),
            source="nvml" if self._known else "none",
            driver_version=self._driver,
            cuda_version=self._cuda,
            message=self._message,
        )

    def close(self) -> None:
        if self._nvml is not None:
            with suppress(self._nvml.binding.NVMLError):
                self._nvml.binding.nvmlShutdown()
        self._nvml = None
        self._gpus = {}

    def _device(self, uuid: str) -> DeviceInventory:
        device, fault = self._known[uuid], self._faults.get(uuid)
        return device if fault is None else replace(device, healthy=False, fault=fault)

    def _discover(self, now: float) -> None:
        """(Re)open NVML and find all GPUs; those known before that are gone stay, unhealthy."""
        self._discover_due = now + REDISCOVER_SECONDS
        self.close()
        try:
            self._nvml = Nvml(open_nvml())
        except NvmlUnavailableError as error:
            self._message = str(error)
            self._faults = dict.fromkeys(self._known, str(error))
            return
        self._driver = self._nvml.ask("*", "nvmlSystemGetDriverVersion")
        self._cuda = _cuda_version(self._nvml.ask("*", "nvmlSystemGetCudaDriverVersion_v2"))
        found, complaints = self._open_gpus(self._nvml)
        self._gpus = {gpu.device.uuid: gpu for gpu in found}
        links = links_between(
            self._nvml, [(g.device.uuid, g.device.pci_bus_id, g.handle) for g in found]
        )
        for uuid, gpu in self._gpus.items():
            self._known[uuid] = gpu.device = replace(gpu.device, links=links.get(uuid, {}))
        self._faults = {
            uuid: self._faults.get(uuid, "NVML doesn't list this GPU any more")
            for uuid in self._known
            if uuid not in self._gpus
        }
        self._message = "; ".join(complaints) or (None if self._known else "the driver has no GPU")

    def _open_gpus(self, nvml: Nvml) -> tuple[list[_Gpu], list[str]]:
        pynvml = nvml.binding
        found, complaints = [], []
        for index in range(nvml.ask("*", "nvmlDeviceGetCount") or 0):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = pynvml.nvmlDeviceGetUUID(handle)
                memory = _memory(nvml, uuid, handle)
                found.append(_Gpu(handle, self._describe(nvml, uuid, index, handle, memory)))
            except (pynvml.NVMLError, DeviceLostError) as error:
                complaints.append(f"GPU {index} can't be used: {error}")
        return found, complaints

    def _describe(
        self, nvml: Nvml, uuid: str, index: int, handle: Any, memory: "_Memory | None"
    ) -> DeviceInventory:
        pci = nvml.ask(uuid, "nvmlDeviceGetPciInfo", handle)
        bus_id = _text(pci.busId).lower() if pci is not None else None
        capability = nvml.ask(uuid, "nvmlDeviceGetCudaComputeCapability", handle)
        return DeviceInventory(
            uuid=uuid,
            index=index,
            model=_text(nvml.ask(uuid, "nvmlDeviceGetName", handle) or "unknown"),
            memory_mib=memory.total_mib if memory else 0,
            numa=self.numa_node(bus_id),
            pci_bus_id=bus_id,
            compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        )

    def numa_node(self, bus_id: str | None) -> int | None:
        """The NUMA node near a GPU, from sysfs.

        nvmlDeviceGetNumaNodeId is for GPUs that *are* a NUMA node (GH200) and fails on all others.
        """
        if bus_id is None:
            return None
        domain, _, rest = bus_id.partition(":")
        path = self._sysfs / "bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node"
        try:
            node = int(path.read_text())
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None

    def _sample(self, gpu: _Gpu, now: float) -> DeviceSample | None:
        nvml, uuid = self._nvml, gpu.device.uuid
        if nvml is None:
            return None
        try:
            return self._ask_all(nvml, uuid, gpu, now)
        except DeviceLostError as error:
            self._faults[uuid] = str(error)
            del self._gpus[uuid]
            self._discover_due = now + REDISCOVER_SECONDS
            return None

    def _ask_all(self, nvml: Nvml, uuid: str, gpu: _Gpu, now: float) -> DeviceSample:
        pynvml, handle = nvml.binding, gpu.handle
        rates = nvml.ask(uuid, "nvmlDeviceGetUtilizationRates", handle)
        memory = _memory(nvml, uuid, handle)
        milliwatts = nvml.ask(uuid, "nvmlDeviceGetPowerUsage", handle)
        millijoules = nvml.ask(uuid, "nvmlDeviceGetTotalEnergyConsumption", handle)
        throttle = nvml.ask(uuid, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if throttle is None:  # the name that drivers before 535 know
            throttle = nvml.ask(uuid, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        if now >= gpu.processes_due:
            gpu.processes = self._processes(nvml, uuid, handle)
            gpu.processes_due = now + PROCESSES_SECONDS
        temperature = pynvml.NVML_TEMPERATURE_GPU
        return DeviceSample(
            uuid=uuid,
            taken_at_ms=int(self._wall_seconds() * 1000),
            utilization_percent=rates.gpu if rates else None,
            memory_used_mib=memory.used_mib if memory else None,
            memory_reserved_mib=memory.reserved_mib if memory else None,
            memory_free_mib=memory.free_mib if memory else None,
            power_watts=milliwatts / 1000 if milliwatts is not None else None,
            energy_joules=millijoules / 1000 if millijoules is not None else None,
            temperature_celsius=nvml.ask(uuid, "nvmlDeviceGetTemperature", handle, temperature),
            clock_sm_mhz=nvml.ask(uuid, "nvmlDeviceGetClockInfo", handle, pynvml.NVML_CLOCK_SM),
            clock_memory_mhz=nvml.ask(
                uuid, "nvmlDeviceGetClockInfo", handle, pynvml.NVML_CLOCK_MEM
            ),
            throttle_reasons=throttle,
            processes=gpu.processes,
        )

    def _processes(self, nvml: Nvml, uuid: str, handle: Any) -> tuple[DeviceProcess, ...] | None:
        if _SCRAMBLED_PIDS[0] <= _version(self._driver) < _SCRAMBLED_PIDS[1]:
            return None
        # By its versioned name: pynvml raises an error of another class for the plain one on old
        # drivers.
        running: Sequence[Any] | None = nvml.ask(
            uuid, "nvmlDeviceGetComputeRunningProcesses_v3", handle
        )
        if running is None:
            return None
        return tuple(
            DeviceProcess(
                pid=process.pid,
                memory_mib=process.usedGpuMemory // _MIB
                if process.usedGpuMemory is not None
                else None,
            )
            for process in sorted(running, key=lambda process: process.pid)
        )


@dataclass(frozen=True, slots=True)
class _Memory:
    total_mib: int
    used_mib: int
    reserved_mib: int | None
    free_mib: int


def _memory(nvml: Nvml, uuid: str, handle: Any) -> _Memory | None:
    """Memory by the second form of the call, which tells used from reserved; by the first on old
    drivers.
    """
    version = getattr(nvml.binding, "nvmlMemory_v2", None)
    if version is not None:
        info = nvml.ask(uuid, "nvmlDeviceGetMemoryInfo", handle, version=version, memo="v2")
        if info is not None:
            return _Memory(
                info.total // _MIB, info.used // _MIB, info.reserved // _MIB, info.free // _MIB
            )
    info = nvml.ask(uuid, "nvmlDeviceGetMemoryInfo", handle)
    if info is None:
        return None
    return _Memory(info.total // _MIB, info.used // _MIB, None, info.free // _MIB)


def open_nvml() -> ModuleType:
    """Import the binding and initialise the library.

    Raises:
        NvmlUnavailableError: with the reason in words.
    """
    try:
        import pynvml  # noqa: PLC0415  a CPU node never needs it
    except ImportError:
        raise NvmlUnavailableError("the Python package nvidia-ml-py isn't installed") from None
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        raise NvmlUnavailableError(
            "the module pynvml isn't NVIDIA's: install nvidia-ml-py in its place"
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NvmlUnavailableError(_why_not(pynvml, error)) from None
    return pynvml


def _why_not(pynvml: ModuleType, error: Any) -> str:
    match error.value:
        case pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return "no NVIDIA driver library (libnvidia-ml.so.1): a CPU node"
        case pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "the NVIDIA kernel driver isn't loaded"
        case pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return (
                "NVIDIA driver and library differ in version: running tasks go on, new ones would"
                " fail; reload the driver or reboot"
            )
        case pynvml.NVML_ERROR_NO_PERMISSION:
            return "no permission to use the NVIDIA driver: see the rights of /dev/nvidia*"
        case _:
            return f"NVML can't be initialised: {error}"


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _version(driver: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", driver or ""))[:2]


def _cuda_version(number: int | None) -> str | None:
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
