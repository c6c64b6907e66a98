"""What NVIDIA devices a machine has: whole GPUs, or the MIG devices that a GPU is divided into."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from telemetry.probes.nvidia.binding import DeviceLostError, DriverConfusedError, Nvml
from telemetry.probes.nvidia.links import links_between
from telemetry.probes.nvidia.sensors import memory_of
from telemetry.samples import DeviceInventory


@dataclass(slots=True)
class Part:
    """A device: a whole GPU, or a MIG device with the instances that it is made of."""

    handle: Any
    device: DeviceInventory
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(slots=True)
class Gpu:
    """A GPU that could be opened, and the devices that it is: itself, or its MIG devices."""

    uuid: str
    handle: Any
    parts: list[Part]

    @property
    def is_divided(self) -> bool:
        return not any(part.device.uuid == self.uuid for part in self.parts)


@dataclass(frozen=True, slots=True)
class Discovery:
    gpus: tuple[Gpu, ...]
    complaints: tuple[str, ...]
    """GPUs that are there and can't be used, in words."""
    is_complete: bool
    """False when another try may find more of them."""


class Discoverer:
    """Asks NVML once for what doesn't change while it's open."""

    def __init__(self, nvml: Nvml, *, sysfs: Path, indices: Mapping[str, int]) -> None:
        self._nvml = nvml
        self._sysfs = sysfs
        self._indices = dict(indices)

    def discover(self) -> Discovery:
        """All GPUs that can be opened.

        Raises:
            DeviceLostError, DriverConfusedError, UnansweredError: not even their number is known.
        """
        gpus: list[Gpu] = []
        complaints: list[str] = []
        is_complete = True
        # The count includes GPUs that this process may not open.
        forbidden = self._nvml.binding.NVMLError_NoPermission
        for index in range(self._nvml.ask("*", "nvmlDeviceGetCount") or 0):
            try:
                gpu = self._open(index)
            except (self._nvml.binding.NVMLError, DeviceLostError, DriverConfusedError) as error:
                complaints.append(f"GPU {index} can't be used: {error}")
                is_complete = is_complete and isinstance(error, forbidden)
                continue
            gpus.append(gpu)
            if not gpu.parts:
                complaints.append(f"GPU {index} has MIG on, and no MIG device")
        self._link(gpus)
        return Discovery(tuple(gpus), tuple(complaints), is_complete)

    def _open(self, index: int) -> Gpu:
        pynvml = self._nvml.binding
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
        whole = self._whole(uuid, index, handle)
        if not has_mig_on(self._nvml, uuid, handle):
            device = replace(whole, index=self._index(uuid, index))
            return Gpu(uuid, handle, [Part(handle, device)])
        parts = [self._mig(whole, mig) for mig in mig_handles(self._nvml, uuid, handle)]
        return Gpu(uuid, handle, parts)

    def _whole(self, uuid: str, index: int, handle: Any) -> DeviceInventory:
        nvml = self._nvml
        pci = nvml.ask_once(uuid, "nvmlDeviceGetPciInfo", handle)
        bus_id = _text(pci.busId).lower() if pci is not None else None
        capability = nvml.ask_once(uuid, "nvmlDeviceGetCudaComputeCapability", handle)
        limit = nvml.ask_once(uuid, "nvmlDeviceGetPowerManagementLimit", handle)
        memory = memory_of(nvml, uuid, handle)
        serial = nvml.ask_once(uuid, "nvmlDeviceGetSerial", handle)
        return DeviceInventory(
            uuid=uuid,
            index=index,
            model=_text(nvml.ask_once(uuid, "nvmlDeviceGetName", handle) or "unknown"),
            memory_mib=memory.total_mib if memory else 0,
            numa=numa_node(self._sysfs, bus_id),
            pci_bus_id=bus_id,
            compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
            serial=_text(serial) if serial else None,
            power_limit_watts=limit / 1000 if limit is not None else None,
            clock_sm_max_mhz=nvml.ask_once(
                uuid, "nvmlDeviceGetMaxClockInfo", handle, nvml.binding.NVML_CLOCK_SM
            ),
            pcie_generation_max=nvml.ask_once(uuid, "nvmlDeviceGetMaxPcieLinkGeneration", handle),
            pcie_width_max=nvml.ask_once(uuid, "nvmlDeviceGetMaxPcieLinkWidth", handle),
        )

    def _mig(self, whole: DeviceInventory, handle: Any) -> Part:
        nvml = self._nvml
        uuid = _text(nvml.binding.nvmlDeviceGetUUID(handle))
        attributes = nvml.ask_once(uuid, "nvmlDeviceGetAttributes_v2", handle)
        if attributes is not None:
            memory_mib = int(attributes.memorySizeMB)
        else:
            memory = memory_of(nvml, uuid, handle)
            memory_mib = memory.total_mib if memory else 0
        device = replace(
            whole,
            uuid=uuid,
            index=self._index(uuid, 0),
            model=self._mig_model(whole.model, uuid, handle, attributes),
            memory_mib=memory_mib,
            parent=whole.uuid,
            power_limit_watts=None,  # the GPU's, and no part of it has one of its own
        )
        return Part(
            handle,
            device,
            gpu_instance=nvml.ask_once(uuid, "nvmlDeviceGetGpuInstanceId", handle),
            compute_instance=nvml.ask_once(uuid, "nvmlDeviceGetComputeInstanceId", handle),
        )

    def _mig_model(self, gpu_model: str, uuid: str, handle: Any, attributes: Any) -> str:
        """The driver's name of a MIG device, or one of the same form where it has none."""
        name = self._nvml.ask_once(uuid, "nvmlDeviceGetName", handle)
        if name and "MIG" in name:
            return _text(name)
        if attributes is None:
            return f"{gpu_model} MIG"
        gpu_slices = attributes.gpuInstanceSliceCount
        compute_slices = attributes.computeInstanceSliceCount
        compute = f"{compute_slices}c." if compute_slices != gpu_slices else ""
        return (
            f"{gpu_model} MIG {compute}{gpu_slices}g.{math.ceil(attributes.memorySizeMB / 1024)}gb"
        )

    def _index(self, uuid: str, wished: int) -> int:
        """The device's number on this node: kept once given, as NVML counts anew without a lost
        GPU."""
        if uuid not in self._indices:
            taken = set(self._indices.values())
            self._indices[uuid] = next(
                n for n in (wished, *range(len(taken) + 1)) if n not in taken
            )
        return self._indices[uuid]

    def _link(self, gpus: list[Gpu]) -> None:
        # MIG devices can't reach each other but through the host, on one GPU or on two.
        whole = [gpu.parts[0] for gpu in gpus if gpu.parts and not gpu.is_divided]
        links = links_between(
            self._nvml, [(p.device.uuid, p.device.pci_bus_id, p.handle) for p in whole]
        )
        for part in whole:
            part.device = replace(part.device, links=links[part.device.uuid])


def has_mig_on(nvml: Nvml, uuid: str, handle: Any) -> bool:
    mode = nvml.ask_once(uuid, "nvmlDeviceGetMigMode", handle)
    return bool(mode and mode[0] == nvml.binding.NVML_DEVICE_MIG_ENABLE)


def mig_handles(nvml: Nvml, uuid: str, handle: Any) -> Iterator[Any]:
    """The MIG devices of a GPU. Slots are numbered with holes, so an error is only a free one."""
    for slot in range(nvml.ask_once(uuid, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        mig = nvml.ask_once(uuid, "nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
        if mig is not None:
            yield mig


def numa_node(sysfs: Path, bus_id: str | None) -> int | None:
    """The NUMA node near a GPU, from sysfs.

    nvmlDeviceGetNumaNodeId is for GPUs that *are* a NUMA node (GH200) and fails on all others.
    """
    if bus_id is None:
        return None
    domain, _, rest = bus_id.partition(":")
    path = sysfs / "bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node"
    try:
        node = int(path.read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
