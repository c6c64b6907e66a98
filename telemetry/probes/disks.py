"""Disks one by one, and which of what the kernel calls a disk is one.

A read of a file on LVM over RAID over two disks is counted by the kernel for the logical volume,
for the array, for a disk, and for its partition. Only whole disks with hardware behind count here:
those that sysfs gives a ``device``. So sums are what really went over the wires.
"""

from pathlib import Path

from telemetry.probes import procfs
from telemetry.samples import DiskCounters

_SECTOR_BYTES = 512
"""In /proc/diskstats, whatever the disk's own sectors are."""


class DiskReader:
    """The disks of this machine, a container's host included: the kernel counts for all alike."""

    def __init__(self, root: Path) -> None:
        self._stats = str(root / "proc/diskstats")
        self._folder = root / "sys/block"
        self._is_disk: dict[str, bool] = {}
        self._busy_seconds: dict[str, float] = {}
        self._busiest_seconds: float | None = None

    def read(self) -> tuple[DiskCounters, ...]:
        """In the kernel's order; empty where it shows no disk."""
        lines = [line.split() for line in (procfs.text(self._stats) or "").splitlines()]
        rows = {words[2]: words for words in lines if len(words) >= 14}
        # Unplugged names are forgotten: another device may get them.
        self._is_disk = {
            name: self._is_disk[name] if name in self._is_disk else self._looks_like_disk(name)
            for name in rows
        }
        disks = tuple(
            DiskCounters(
                name=name,
                read_bytes=int(words[5]) * _SECTOR_BYTES,
                written_bytes=int(words[9]) * _SECTOR_BYTES,
                busy_seconds=int(words[12]) / 1000,
            )
            for name, words in rows.items()
            if self._is_disk[name]
        )
        self._count_busiest(disks)
        return disks

    @property
    def busiest_seconds(self) -> float | None:
        """A counter whose rate is the share of time that the busiest disk was busy, whichever that
        was: the greatest of the counters would stand still while a younger disk is at its limit.
        """
        return self._busiest_seconds

    def _count_busiest(self, disks: tuple[DiskCounters, ...]) -> None:
        now = {disk.name: disk.busy_seconds or 0.0 for disk in disks}
        if self._busiest_seconds is None:
            self._busiest_seconds = max(now.values(), default=None)
        else:
            steps = [
                now[name] - self._busy_seconds[name] for name in now.keys() & self._busy_seconds
            ]
            self._busiest_seconds += max([0.0, *steps])
        self._busy_seconds = now

    def _looks_like_disk(self, name: str) -> bool:
        # A path of a multipath NVMe disk is "hidden": its head counts the same bytes.
        folder = self._folder / name.replace("/", "!")
        return (folder / "device").exists() and procfs.text(folder / "hidden") != "1"
