"""How a task is held to its part of a device. Pure: an allocation and what its node offers, in;
variables of the program, out.

There are three strengths, and a task is told which it has (``STOWPLAN_GPU_ENFORCED``):

* ``whole`` and ``mig``: the device is the task's alone, a GPU or a part that the hardware keeps;
* ``mps``: the driver refuses memory beyond the share, where an MPS control daemon runs;
* ``cooperative``: nothing but the program's own good will. torch's allocator is asked to keep to
  the share; whoever doesn't is found out by :mod:`agent.watches.overuse`, after the fact.

Visibility (``CUDA_VISIBLE_DEVICES``) is of the last kind, too: a program may unset it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.desired import DesiredAllocation
from protocol.task import ENFORCE_LABEL
from telemetry.samples import SIMULATED_PREFIX, DeviceInventory

WHOLE_MILLI = 1000
LABEL = f"{ENFORCE_LABEL}gpu_memory"
FRACTION_OPTION = "per_process_memory_fraction"
"""Of torch's allocator, in ``PYTORCH_CUDA_ALLOC_CONF``."""

# What a process needs beside what torch's allocator hands out: the CUDA context with its kernels,
# cuBLAS's and cuDNN's room, NCCL's buffers. A gibibyte is the usual figure; of a small share it
# would leave nothing, so never more than a quarter of it.
_CONTEXT_MIB = 1024
_CONTEXT_PART = 4
_FRACTION_STEPS = 10_000
_CUDA_CONF, _CONF = "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"


class Strength(StrEnum):
    """How firmly a task is kept within its part of a device."""

    WHOLE = "whole"
    MIG = "mig"
    MPS = "mps"
    COOPERATIVE = "cooperative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a node can do for one allocation."""

    memory_mib: Mapping[str, int] = field(default_factory=dict)
    """Of each device that it knows."""
    mig: frozenset[str] = frozenset()
    mps_pipe_directory: str | None = None
    """Of the control daemon that serves its device."""
    allocator_fraction: bool = False
    """The program's torch is known to understand :data:`FRACTION_OPTION`. One that doesn't ends
    with an error at its first use of CUDA."""


def is_whole(allocation: DesiredAllocation) -> bool:
    """Whether it has its devices alone."""
    return allocation.gpu_milli >= WHOLE_MILLI


def memory_limit_mib(
    allocation: DesiredAllocation, memory_mib: Mapping[str, int]
) -> dict[str, int]:
    """What an allocation may use of each of its devices; without those where that isn't known."""
    limits = {}
    for device in allocation.devices:
        all_of_it = memory_mib.get(device)
        if is_whole(allocation):
            limit = all_of_it
        elif allocation.gpu_memory_mib:
            limit = min(allocation.gpu_memory_mib, all_of_it or allocation.gpu_memory_mib)
        else:
            limit = None if all_of_it is None else all_of_it * allocation.gpu_milli // WHOLE_MILLI
        if limit is not None:
            limits[device] = limit
    return limits


def strength(allocation: DesiredAllocation, offer: Offer) -> Strength:
    """Of what keeps it within its part. A share of a MIG device is a share like others."""
    if is_whole(allocation):
        devices = set(allocation.devices)
        return Strength.MIG if devices and devices <= offer.mig else Strength.WHOLE
    return Strength.MPS if offer.mps_pipe_directory is not None else Strength.COOPERATIVE


def device_environment(allocation: DesiredAllocation, offer: Offer) -> dict[str, str]:
    """The variables by which the program finds its devices and is kept within its part of them."""
    real = [device for device in allocation.devices if not device.startswith(SIMULATED_PREFIX)]
    variables = {
        # Empty, not absent, for a task without a GPU: absent would show it all of them.
        "CUDA_VISIBLE_DEVICES": ",".join(real),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "STOWPLAN_DEVICES": ",".join(allocation.devices),
    }
    if not allocation.devices:
        return variables
    variables["STOWPLAN_GPU_SHARE"] = f"{allocation.gpu_milli / WHOLE_MILLI:g}"
    limits = memory_limit_mib(allocation, offer.memory_mib)
    if len(limits) == len(allocation.devices):
        variables["STOWPLAN_GPU_MEMORY_MIB"] = str(min(limits.values()))
    if not real:  # nothing is there to be kept within
        return variables
    how = strength(allocation, offer)
    variables["STOWPLAN_GPU_ENFORCED"] = how
    match how:
        case Strength.MPS:
            variables |= _mps(allocation, offer, limits)
        case Strength.COOPERATIVE:
            variables |= _allocator(allocation, offer, limits)
        case Strength.WHOLE | Strength.MIG:
            pass
    return variables


def node_labels(
    devices: Iterable[DeviceInventory], *, has_mps: Callable[[str], bool]
) -> dict[str, str]:
    """What a node says of how it keeps shares apart: the weakest that one on it may get. None
    without a real device."""
    found = {
        Strength.MIG
        if device.parent is not None
        else Strength.MPS
        if has_mps(device.uuid)
        else Strength.COOPERATIVE
        for device in devices
        if not device.simulated
    }
    for how in (Strength.COOPERATIVE, Strength.MPS, Strength.MIG):
        if how in found:
            return {LABEL: str(how)}
    return {}


def _mps(allocation: DesiredAllocation, offer: Offer, limits: Mapping[str, int]) -> dict[str, str]:
    assert offer.mps_pipe_directory is not None  # noqa: S101  it's what makes it MPS
    variables = {
        "CUDA_MPS_PIPE_DIRECTORY": offer.mps_pipe_directory,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(max(1, allocation.gpu_milli // 10)),
    }
    if limits:  # 0 is the only device that the program sees
        variables["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={min(limits.values())}M"
    return variables


def _allocator(
    allocation: DesiredAllocation, offer: Offer, limits: Mapping[str, int]
) -> dict[str, str]:
    all_of_it = [offer.memory_mib.get(device) for device in limits]
    if not offer.allocator_fraction or not limits or not all_of_it[0]:
        return {}
    limit = min(limits.values())
    context = min(_CONTEXT_MIB, limit // _CONTEXT_PART)
    steps = math.floor((limit - context) / all_of_it[0] * _FRACTION_STEPS)
    fraction = max(1, steps) / _FRACTION_STEPS  # with 0 it couldn't even begin
    given = allocation.launch.env
    # The first one wins where a program sets both, and torch 2.9 heeds only the first for CUDA.
    options = given.get(_CUDA_CONF) or given.get(_CONF, "")
    return {_CUDA_CONF: merged_options(options, fraction)}


def merged_options(options: str, fraction: float) -> str:
    """The program's own options of torch's allocator, and never more than this fraction."""
    kept = []
    for option in _split(options):
        name, _, value = option.partition(":")
        if name.strip() != FRACTION_OPTION:
            kept.append(option)
            continue
        # What isn't a number torch would end at: ours stands in its place.
        with suppress(ValueError):
            given = float(value)
            fraction = min(fraction, given) if given >= 0 else fraction
    return ",".join([*kept, f"{FRACTION_OPTION}:{fraction:g}"])


def _split(options: str) -> list[str]:
    """At commas, but not within brackets: ``roundup_power2_divisions:[256:1,>:2]`` is one."""
    parts, depth, part = [], 0, ""
    for character in options:
        depth += (character == "[") - (character == "]")
        if character == "," and depth <= 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [part.strip() for part in [*parts, part] if part.strip()]
