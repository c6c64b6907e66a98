"""How the GPUs of one machine reach each other: NVLink first, the PCIe tree otherwise."""

from collections.abc import Sequence
from typing import Any

from telemetry.probes.nvidia.binding import DeviceLostError, DriverConfusedError, Nvml

# nvmlGpuTopologyLevel_t, in the words of `nvidia-smi topo -m`.
_ANCESTORS = {0: "pix", 10: "pix", 20: "pxb", 30: "phb", 40: "node", 50: "sys"}
_SWITCH = "switch"


def links_between(
    nvml: Nvml, gpus: Sequence[tuple[str, str | None, Any]]
) -> dict[str, dict[str, str]]:
    """For each GPU (uuid, PCI bus id, handle): peer's uuid -> kind of the best path.

    GPUs whose links end in an NVSwitch all reach each other at full width, so they count as linked.
    A GPU that is lost meanwhile has no links; whoever samples it next will say so.
    """
    by_bus_id = {bus_id: uuid for uuid, bus_id, _ in gpus if bus_id is not None}
    ends = {uuid: _link_ends(nvml, uuid, handle, by_bus_id) for uuid, _, handle in gpus}
    links: dict[str, dict[str, str]] = {uuid: {} for uuid, _, _ in gpus}
    for uuid, _, handle in gpus:
        for peer, _, peer_handle in gpus:
            if peer == uuid:
                continue
            if peer in ends[uuid] or (_SWITCH in ends[uuid] and _SWITCH in ends[peer]):
                links[uuid][peer] = "nvlink"
                continue
            level = _ask(nvml, uuid, "nvmlDeviceGetTopologyCommonAncestor", handle, peer_handle)
            if level in _ANCESTORS:
                links[uuid][peer] = _ANCESTORS[level]
    return links


def _link_ends(nvml: Nvml, uuid: str, handle: Any, by_bus_id: dict[str, str]) -> set[str]:
    """What the active NVLinks of a GPU end in: the uuid of a GPU of this machine, or a switch."""
    ends: set[str] = set()
    for link in range(nvml.binding.NVML_NVLINK_MAX_LINKS):
        # An answer for link 0 and INVALID_ARGUMENT past the last link, which is None here.
        if not _ask(nvml, uuid, "nvmlDeviceGetNvLinkState", handle, link):
            continue
        kind = _ask(nvml, uuid, "nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
        if kind == nvml.binding.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            ends.add(_SWITCH)
            continue
        if kind == nvml.binding.NVML_NVLINK_DEVICE_TYPE_IBMNPU:
            continue  # the link goes to the processor: no way to another GPU
        remote = _ask(nvml, uuid, "nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
        if remote is None:
            continue
        bus_id = remote.busId
        text = bus_id.decode(errors="replace") if isinstance(bus_id, bytes) else bus_id
        # Old drivers don't tell what a link ends in: what is no GPU of ours is a switch.
        peer = by_bus_id.get(text.lower())
        if peer is not None:
            ends.add(peer)
        elif kind is None:
            ends.add(_SWITCH)
    return ends


def _ask(nvml: Nvml, uuid: str, function: str, *arguments: Any) -> Any:
    try:
        return nvml.ask_once(uuid, function, *arguments)
    except (DeviceLostError, DriverConfusedError):
        return None
