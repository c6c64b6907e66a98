"""What measuring costs: this process, and its children that measure."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from telemetry.probes import procfs
from telemetry.probes.processes import Process, read_process

_MIB = 1 << 20
_OUR_MODULES = "telemetry."
"""A child that was started with ``python -m telemetry...`` measures; the agent's other children are
its tasks' shims, whose time is the tasks'. That is also why the kernel's own sum over children that
ended is of no use here.
"""


@dataclass(frozen=True, slots=True)
class OwnCost:
    """``cpu_seconds`` never falls while this process lives; memory is what is resident now."""

    cpu_seconds: float
    memory_mib: float


class OwnCostReader:
    """Looks at this process by its own /proc entries; the rest of the machine isn't looked at."""

    def __init__(self, root: Path) -> None:
        self._proc = str(root / "proc")
        self._measures: dict[tuple[int, int], bool] = {}
        self._children: dict[int, Process] = {}
        self._ended_ticks = 0

    def read(self) -> OwnCost | None:
        """None where /proc doesn't show this process."""
        own = read_process(self._proc, "self")
        if own is None:
            return None
        children = {child.pid: child for child in self._running()}
        for pid, last in self._children.items():
            if pid not in children or children[pid].started_ticks != last.started_ticks:
                self._ended_ticks += last.own_ticks + last.reaped_ticks
        self._children = children
        ticks = own.own_ticks + self._ended_ticks
        ticks += sum(child.own_ticks + child.reaped_ticks for child in children.values())
        pages = own.resident_pages + sum(child.resident_pages for child in children.values())
        return OwnCost(ticks / procfs.CLOCK_TICKS, pages * procfs.PAGE_BYTES / _MIB)

    def _running(self) -> list[Process]:
        found = []
        for thread in procfs.names(f"{self._proc}/self/task"):
            for pid in (procfs.text(f"{self._proc}/self/task/{thread}/children") or "").split():
                child = read_process(self._proc, pid)
                if child is not None:
                    found.append(child)
        known = {(child.pid, child.started_ticks): child for child in found}
        self._measures = {
            key: self._measures[key] if key in self._measures else self._looks_like_ours(key[0])
            for key in known
        }
        return [child for key, child in known.items() if self._measures[key]]

    def _looks_like_ours(self, pid: int) -> bool:
        words = (procfs.text(f"{self._proc}/{pid}/cmdline") or "").split("\0")
        return any(
            option == "-m" and module.startswith(_OUR_MODULES) for option, module in pairwise(words)
        )
