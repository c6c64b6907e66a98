"""Whose processes hold a device. Pure: what was seen in, the same with the answers filled in out.

A process is of one of our tasks, of the agent itself, or *foreign*. One that our /proc doesn't show
(another pid namespace, a driver that scrambles pids, a process that just ended) could be anybody's:
then nothing is said about its device, for what is unknown must never look like unmanaged use.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from telemetry.samples import DeviceProcess, DeviceSample, TaskSample


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUse:
    """A running allocation: what it uses, its processes, and the devices that it holds."""

    sample: TaskSample
    pids: frozenset[int]
    devices: tuple[str, ...] = ()
    whole: bool = True
    """It holds its devices alone."""


@dataclass(slots=True)
class _Holders:
    """The processes on one device, sorted out."""

    of_tasks: dict[str, list[DeviceProcess]] = field(default_factory=dict)
    foreign: list[DeviceProcess] = field(default_factory=list)


def attributed(
    devices: Sequence[DeviceSample],
    tasks: Sequence[TaskUse],
    *,
    agent_pid: int,
    parent_of: Callable[[int], int | None],
) -> tuple[tuple[DeviceSample, ...], tuple[TaskSample, ...]]:
    """The samples with what the agent knows: how many processes of whom, and how much they use.

    ``parent_of`` gives a process's parent, and None for one that isn't to be seen.
    """
    owner_of = {pid: task.sample.allocation for task in tasks for pid in task.pids}
    holders = {
        device.uuid: _sorted_out(device.processes, owner_of, agent_pid, parent_of)
        for device in devices
    }
    by_uuid = {device.uuid: device for device in devices}
    return (
        tuple(_with_foreign(device, holders[device.uuid]) for device in devices),
        tuple(_with_devices(task, by_uuid, holders) for task in tasks),
    )


def _sorted_out(
    processes: Sequence[DeviceProcess] | None,
    owner_of: Mapping[int, str],
    agent_pid: int,
    parent_of: Callable[[int], int | None],
) -> _Holders | None:
    if processes is None:
        return None
    holders = _Holders()
    for process in processes:
        owner = owner_of.get(process.pid)
        if owner is not None:
            holders.of_tasks.setdefault(owner, []).append(process)
            continue
        parent = parent_of(process.pid)
        if parent is None:
            return None
        if agent_pid not in {process.pid, parent}:  # its NVML process is its child
            holders.foreign.append(process)
    return holders


def _with_foreign(device: DeviceSample, holders: _Holders | None) -> DeviceSample:
    return replace(
        device,
        process_count=None if device.processes is None else len(device.processes),
        foreign_process_count=None if holders is None else len(holders.foreign),
        foreign_memory_mib=None if holders is None else _memory_mib(holders.foreign),
    )


def _with_devices(
    task: TaskUse, devices: Mapping[str, DeviceSample], holders: Mapping[str, _Holders | None]
) -> TaskSample:
    if not task.devices:
        return task.sample
    memory: list[float | None] = []
    utilization: list[float | None] = []
    pids: set[int] | None = set()
    for uuid in task.devices:
        device, on_device = devices.get(uuid), holders.get(uuid)
        own = None if on_device is None else on_device.of_tasks.get(task.sample.allocation, [])
        pids = None if own is None or pids is None else pids | {process.pid for process in own}
        whole_device = device if task.whole else None
        memory.append(_task_memory_mib(own, whole_device))
        utilization.append(_task_utilization_percent(own, whole_device))
    return replace(
        task.sample,
        gpu_process_count=None if pids is None else len(pids),
        gpu_memory_mib=None if (known := _all_known(memory)) is None else max(known),
        gpu_utilization_percent=None
        if (known := _all_known(utilization)) is None
        else sum(known) / len(known),
    )


def _task_memory_mib(
    own: Sequence[DeviceProcess] | None, whole_device: DeviceSample | None
) -> float | None:
    """Of its processes; of the device where these aren't known and nobody else may use it."""
    known = None if own is None else _memory_mib(own)
    if known is None and whole_device is not None:
        return whole_device.memory_used_mib
    return known


def _task_utilization_percent(
    own: Sequence[DeviceProcess] | None, whole_device: DeviceSample | None
) -> float | None:
    """As above. A device's own figure also counts where the driver lists no process of the task:
    some hide them from a container, and a task that works must not look idle.
    """
    known = _all_known(process.utilization_percent for process in own or ())
    if known:
        return min(100.0, sum(known))
    if whole_device is not None:
        return whole_device.utilization_percent
    return 0.0 if own is not None and not own else None


def _memory_mib(processes: Iterable[DeviceProcess]) -> int | None:
    known = _all_known(process.memory_mib for process in processes)
    return None if known is None else int(sum(known))


def _all_known(values: Iterable[float | None]) -> list[float] | None:
    """The values, or None when one of them is unknown."""
    given = list(values)
    known = [value for value in given if value is not None]
    return known if len(known) == len(given) else None
