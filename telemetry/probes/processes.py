"""Processes as the kernel shows them, and which of them descend from given ones."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from telemetry.probes import procfs

_LOOK_AT_ALL_AGAIN_READS = 60
_ENDED = frozenset({b"Z", b"X"})


class Process(NamedTuple):
    """A look at /proc/PID/stat. A pid alone names nobody for long: ``started_ticks`` goes with it.

    ``own_ticks`` is CPU time of the process, ``reaped_ticks`` that of the descendants that ended
    and were waited for.
    """

    pid: int
    parent: int
    started_ticks: int
    own_ticks: int
    reaped_ticks: int
    resident_pages: int
    ended: bool

    def is_same(self, other: "Process | None") -> bool:
        return (
            other is not None
            and self.pid == other.pid
            and self.started_ticks == other.started_ticks
        )


def read_process(proc: str, pid: int | str) -> Process | None:
    """A process by /proc/PID/stat; None when it is gone."""
    stat = procfs.record(f"{proc}/{pid}/stat")
    if not stat:
        return None
    # The name may hold blanks and brackets; nothing behind it does.
    words = stat[stat.rfind(b")") + 1 :].split()
    return Process(
        pid=int(stat[: stat.index(b" ")]),
        parent=int(words[1]),
        started_ticks=int(words[19]),
        own_ticks=int(words[11]) + int(words[12]),
        reaped_ticks=int(words[13]) + int(words[14]),
        resident_pages=int(words[21]),
        ended=words[0] in _ENDED,
    )


class ProcessTrees:
    """The descendants of some processes, looked up again and again.

    ``/proc/PID/task/*/children`` would be a file for each thread, and a training program has a
    hundred. The list of all pids is one call, and only pids that are new in it are looked at: one
    that belongs to somebody else never comes to belong to us.
    """

    def __init__(self, root: Path) -> None:
        self._proc = str(root / "proc")
        self._strangers: set[int] = set()
        self._owners: dict[int, tuple[int, int]] = {}
        """Member -> when it started, and whose it is."""
        self._roots: frozenset[int] = frozenset()
        self._reads_left = 0

    def look(self, roots: Iterable[int]) -> dict[int, dict[int, Process]]:
        """For each root that runs: itself and its living descendants, by pid. Those whose parent
        has ended in between stay.
        """
        wanted = frozenset(roots)
        self._reads_left -= 1
        # A new root may have been seen before, as somebody else's; a pid may have got a new owner.
        if not wanted <= self._roots or self._reads_left <= 0:
            self._strangers, self._reads_left = set(), _LOOK_AT_ALL_AGAIN_READS
        self._roots = wanted
        listed = {int(name) for name in procfs.names(self._proc) if name.isdecimal()}
        self._strangers &= listed
        seen: dict[int, Process] = {}
        for pid in listed - self._strangers:
            process = read_process(self._proc, pid)
            if process is not None:
                seen[pid] = process
        return self._sorted_by_owner(seen, wanted)

    def _sorted_by_owner(
        self, seen: Mapping[int, Process], roots: frozenset[int]
    ) -> dict[int, dict[int, Process]]:
        owners: dict[int, int | None] = {
            pid: owner
            for pid, (started, owner) in self._owners.items()
            if owner in seen and pid in seen and seen[pid].started_ticks == started
        }
        owners |= {root: root for root in roots if root in seen and not seen[root].ended}
        found: dict[int, dict[int, Process]] = {root: {} for root in roots if root in owners}
        for pid, process in seen.items():
            owner = self._owner(pid, seen, owners)
            if owner in found:
                found[owner][pid] = process
        self._owners = {
            pid: (process.started_ticks, root)
            for root, members in found.items()
            for pid, process in members.items()
        }
        return found

    def _owner(
        self, pid: int, seen: Mapping[int, Process], owners: dict[int, int | None]
    ) -> int | None:
        """The nearest root above; None for nobody's, and for one whose parent ended while we
        looked. Only the former is remembered as a stranger.
        """
        path = []
        while pid not in owners and pid in seen and pid not in path:
            path.append(pid)
            pid = seen[pid].parent
        owner = owners.get(pid)
        nobodys = pid in self._strangers or pid == 0 or (pid in owners and owner is None)
        for member in path:
            if owner is not None or nobodys:
                owners[member] = owner
            if nobodys:
                self._strangers.add(member)
        return owner
