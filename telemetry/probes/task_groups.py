"""What a task uses by its own control group (version 2): a few files, however many processes; what
left the tree of processes is in it, and what ended stays counted.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from telemetry.probes import procfs
from telemetry.probes.cgroups import group_of, tree_of
from telemetry.probes.memory import working_set_bytes
from telemetry.probes.processes import read_process


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUse:
    """None: the controller isn't switched on for this group."""

    pids: frozenset[int]
    cpu_seconds: float | None
    cpu_throttled_seconds: float | None
    memory_bytes: int | None
    oom_kills: int | None
    read_bytes: int | None
    written_bytes: int | None


class TaskGroups:
    """Finds the groups of tasks and reads them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = tree_of(root)
        self._own: dict[tuple[int, PurePosixPath], bool] = {}
        self._on_others: dict[str, bool] = {}

    def folders(self, roots: Iterable[int]) -> dict[int, Path]:
        """For each root process that has a group of its own: its folder.

        Not its own is a group that this process is in, or is in a group below, one that two tasks
        are in, and one in which something is older than the task: a login's session, say, from
        which an agent was started by hand.
        """
        ours = group_of(self._root, "self")
        if self._tree is None or ours is None:
            return {}
        groups = {pid: group for pid in roots if (group := group_of(self._root, pid)) is not None}
        shared = {group for group in groups.values() if list(groups.values()).count(group) > 1}
        found = {}
        own: dict[tuple[int, PurePosixPath], bool] = {}
        for pid, group in groups.items():
            if ours.is_relative_to(group) or group in shared or ".." in group.parts:
                continue
            folder, key = self._tree.folder(group), (pid, group)
            own[key] = self._own[key] if key in self._own else self._is_oldest_in(folder, pid)
            if own[key]:
                found[pid] = folder
        self._own = own
        return found

    def read(self, folder: Path) -> GroupUse:
        cpu = procfs.numbers(f"{folder}/cpu.stat")
        read_bytes, written_bytes = self._disk_bytes(folder)
        return GroupUse(
            pids=frozenset(_pids(str(folder))),
            cpu_seconds=_seconds(cpu.get("usage_usec")),
            cpu_throttled_seconds=_seconds(cpu.get("throttled_usec")),
            memory_bytes=working_set_bytes(folder),
            oom_kills=procfs.numbers(f"{folder}/memory.events").get("oom_kill"),
            read_bytes=read_bytes,
            written_bytes=written_bytes,
        )

    def _is_oldest_in(self, folder: Path, root: int) -> bool:
        started = {
            pid: process.started_ticks
            for pid in (*_pids(str(folder)), root)
            if (process := read_process(f"{self._root}/proc", pid)) is not None
        }
        return root in started and started[root] == min(started.values())

    def _disk_bytes(self, folder: Path) -> tuple[int | None, int | None]:
        text = procfs.text(f"{folder}/io.stat")
        if text is None:
            return None, None
        read_bytes = written_bytes = 0
        for line in text.splitlines():
            device, *words = line.split()
            values = dict(word.split("=", 1) for word in words if "=" in word)
            if not self._is_on_others(device):
                read_bytes += int(values.get("rbytes", 0))
                written_bytes += int(values.get("wbytes", 0))
        return read_bytes, written_bytes

    def _is_on_others(self, device: str) -> bool:
        """True for LVM, RAID and the like: what goes to them is counted for their disks too."""
        if device not in self._on_others:
            self._on_others[device] = bool(
                procfs.names(self._root / "sys/dev/block" / device / "slaves")
            )
        return self._on_others[device]


def _pids(folder: str) -> Iterable[int]:
    """Of the group and those below; 0 stands for one that our pid namespace doesn't show."""
    for word in (procfs.text(f"{folder}/cgroup.procs") or "").split():
        if word != "0":
            yield int(word)
    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in below:
        yield from _pids(path)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
