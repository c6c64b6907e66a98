"""Which disks count, and how."""

from pathlib import Path

from telemetry.probes.disks import DiskReader
from telemetry.probes.host import HostReader
from telemetry.samples import DiskCounters
from tests.machine import LEAST, machine


def row(name: str, *, read: int = 0, written: int = 0, busy_ms: int = 0) -> str:
    return f" 8 0 {name} 1 2 {read} 4 5 6 {written} 8 9 {busy_ms} 11 0 0 0 0 0 0\n"


def box(root: Path, *rows: str) -> Path:
    """Two disks, one of them NVMe with two paths; on them partitions, LVM, and loops beside."""
    machine(root, {"proc/diskstats": "".join(rows)})
    for disk in ("sda", "nvme0n1", "nvme0c0n1"):
        (root / "sys/block" / disk / "device").mkdir(parents=True, exist_ok=True)
    machine(root, {"sys/block/nvme0c0n1/hidden": "1\n", "sys/block/sda/hidden": "0\n"})
    for other in ("dm-0", "md0", "loop0", "zram0"):
        (root / "sys/block" / other).mkdir(parents=True, exist_ok=True)
    return root


def test_only_whole_disks_with_hardware_behind_count(tmp_path: Path) -> None:
    names = ("loop0", "sda", "sda1", "dm-0", "md0", "zram0", "nvme0n1", "nvme0n1p1", "nvme0c0n1")
    rows = [row(name, read=10, written=20, busy_ms=1500) for name in names]
    disks = DiskReader(box(tmp_path, *rows)).read()
    assert disks == tuple(
        DiskCounters(name=name, read_bytes=5120, written_bytes=10240, busy_seconds=1.5)
        for name in ("sda", "nvme0n1")
    )


def test_sums_of_a_host_are_those_of_its_disks(tmp_path: Path) -> None:
    box(tmp_path, row("sda", read=1), row("sda1", read=1), row("nvme0n1", read=2, written=4))
    machine(tmp_path, LEAST)
    found = HostReader(disk=tmp_path, root=tmp_path).sample()
    assert (found.disk_read_bytes, found.disk_written_bytes) == (3 * 512, 4 * 512)
    assert [disk.name for disk in found.disks] == ["sda", "nvme0n1"]


def test_busy_time_grows_with_the_disk_that_is_busiest_now(tmp_path: Path) -> None:
    reader = DiskReader(box(tmp_path, row("sda", busy_ms=90_000), row("nvme0n1", busy_ms=1000)))
    reader.read()
    assert reader.busiest_seconds == 90.0
    box(tmp_path, row("sda", busy_ms=90_100), row("nvme0n1", busy_ms=1800))
    reader.read()
    assert reader.busiest_seconds == 90.8


def test_disk_that_is_unplugged_and_another_that_comes_cost_no_counter(tmp_path: Path) -> None:
    reader = DiskReader(box(tmp_path, row("sda", busy_ms=5000), row("nvme0n1", busy_ms=1000)))
    reader.read()
    box(tmp_path, row("nvme0n1", busy_ms=1500))
    assert [disk.name for disk in reader.read()] == ["nvme0n1"]
    assert reader.busiest_seconds == 5.5
    box(tmp_path, row("nvme0n1", busy_ms=1500), row("sda", busy_ms=70))
    assert [disk.name for disk in reader.read()] == ["nvme0n1", "sda"]
    assert reader.busiest_seconds == 5.5


def test_machine_that_shows_no_disk_has_none(tmp_path: Path) -> None:
    reader = DiskReader(tmp_path)
    assert reader.read() == ()
    assert reader.busiest_seconds is None
