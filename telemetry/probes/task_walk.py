"""What a task uses by its processes one by one, where no control group counts for it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from telemetry.probes import procfs
from telemetry.probes.processes import Process

PSS_SECONDS = 60.0
PSS_PROCESSES = 4
_PSS_SHARE = 1000
"""Reading PSS takes 9 ms a GiB: at most a thousandth of a core goes into it, for any task."""


class Spending(NamedTuple):
    """What one process has used up. ``inherited`` grows when a descendant ends and is waited for,
    by what that one had used.
    """

    process: Process
    total: int
    inherited: int


class Tally:
    """A sum over processes that come and go, and that never goes back.

    A process that ends bequeaths what it used to the parent that waits for it. What nobody was
    seen to inherit (nobody waited, or the heir isn't one of ours) is remembered here.
    """

    def __init__(self) -> None:
        self._last: dict[int, Spending] = {}
        self._lost = 0

    def update(self, now: Mapping[int, Spending]) -> int:
        """The sum, by the processes that live now."""
        last = self._last
        bequeathed: dict[int, int] = {}
        for spending in last.values():
            if not _lives(spending, now):
                heir = self._heir(spending.process.parent, now)
                bequeathed[heir] = bequeathed.get(heir, 0) + spending.total
        for heir, total in bequeathed.items():
            lives = heir in last and heir in now
            inherited = now[heir].inherited - last[heir].inherited if lives else 0
            self._lost += max(0, total - inherited)
        self._last = dict(now)
        return self._lost + sum(spending.total for spending in now.values())

    def _heir(self, pid: int, now: Mapping[int, Spending]) -> int:
        """The nearest of those above that still lives; a pid of no process of ours for none."""
        for _ in self._last:
            if pid not in self._last or _lives(self._last[pid], now):
                break
            pid = self._last[pid].process.parent
        return pid


def _lives(spending: Spending, now: Mapping[int, Spending]) -> bool:
    process, other = spending.process, now.get(spending.process.pid)
    return other is not None and process.started_ticks == other.process.started_ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkUse:
    """None: not one of the processes lets us see it."""

    cpu_seconds: float
    memory_bytes: int
    read_bytes: int | None
    written_bytes: int | None


class TaskWalk:
    """Reads one task, look by look."""

    def __init__(self, *, proc: str, boot_seconds: Callable[[], float]) -> None:
        self._proc = proc
        self._boot_seconds = boot_seconds
        self._cpu, self._reads, self._writes = Tally(), Tally(), Tally()
        self._disk_bytes: dict[int, tuple[Process, int, int]] = {}
        self._own_share = 1.0
        self._own_share_due = float("-inf")

    def read(self, processes: Mapping[int, Process]) -> WalkUse:
        ticks = self._cpu.update(
            {
                pid: Spending(
                    process, process.own_ticks + process.reaped_ticks, process.reaped_ticks
                )
                for pid, process in processes.items()
            }
        )
        self._look_at_disk_bytes(processes)
        disk_bytes = self._disk_bytes
        reads = {
            pid: Spending(process, read, read) for pid, (process, read, _) in disk_bytes.items()
        }
        writes = {
            pid: Spending(process, wrote, wrote) for pid, (process, _, wrote) in disk_bytes.items()
        }
        return WalkUse(
            cpu_seconds=ticks / procfs.CLOCK_TICKS,
            memory_bytes=self._memory_bytes(processes),
            read_bytes=self._reads.update(reads) if disk_bytes else None,
            written_bytes=self._writes.update(writes) if disk_bytes else None,
        )

    def _memory_bytes(self, processes: Mapping[int, Process]) -> int:
        """Resident pages, less what is counted twice: pages that processes share are in each one's
        sum. How much that is, the largest ones tell now and then.
        """
        now = self._boot_seconds()
        if now >= self._own_share_due:
            started = time.thread_time()
            self._own_share = self._share_of_largest(processes)
            spent_seconds = time.thread_time() - started
            self._own_share_due = now + max(PSS_SECONDS, spent_seconds * _PSS_SHARE)
        resident_pages = sum(process.resident_pages for process in processes.values())
        return int(resident_pages * procfs.PAGE_BYTES * self._own_share)

    def _share_of_largest(self, processes: Mapping[int, Process]) -> float:
        largest = sorted(processes.values(), key=lambda process: -process.resident_pages)
        proportional = resident = 0
        for process in largest[:PSS_PROCESSES]:
            kib = procfs.numbers(f"{self._proc}/{process.pid}/smaps_rollup")
            if "Pss" in kib and "Rss" in kib:
                proportional += kib["Pss"]
                resident += kib["Rss"]
        return min(1.0, proportional / resident) if resident else 1.0

    def _look_at_disk_bytes(self, processes: Mapping[int, Process]) -> None:
        """A process that exchanged its rights for others' can't be read any more: what it had then
        stays.
        """
        found = {}
        for pid, process in processes.items():
            io = procfs.record(f"{self._proc}/{pid}/io")
            known = self._disk_bytes.get(pid)
            if io:
                words = io.split()  # rchar: 1 wchar: 2 syscr: 3 syscw: 4 read_bytes: 5 ...
                found[pid] = (process, int(words[9]), int(words[11]))
            elif known is not None and known[0].is_same(process):
                found[pid] = known
        self._disk_bytes = found
