"""Processes of this machine: who is who, when they end, and how to be rid of them."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Names a process for good: a pid alone is used again, a start time alone after a reboot."""

    pid: int
    start_ticks: int
    boot_id: str


def boot_id() -> str:
    """The name of this boot of the machine."""
    return _BOOT_ID.read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is no such process."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def parent(pid: int) -> int | None:
    """A process's parent; None when there is no such process, or none that we may see."""
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else None


def name(pid: int) -> str | None:
    """What a process calls itself; None as above."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have, without itself."""
    parents = {
        int(entry.name): parent(int(entry.name))
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    }
    family = {pid}
    while more := {child for child, above in parents.items() if above in family} - family:
        family |= more
    return family - {pid}


def open_pidfd(identity: Identity) -> int | None:
    """A descriptor that becomes readable when exactly this process ends; None when it has ended.

    It is opened first and checked after: between a check and an open the pid could change hands.
    """
    if identity.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if start_ticks(identity.pid) != identity.start_ticks:
        os.close(fd)
        return None
    return fd


def send_signal(identity: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it has ended."""
    fd = open_pidfd(identity)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def kill_marked(variable: str, value: str) -> int:
    """SIGKILL every process that was started with this environment variable, and its descendants.

    For what a killed shim left behind: its orphans belong to init, so no tree leads to them any
    more. Returns how many there were; the caller looks again until there are none.
    """
    mark = f"{variable}={value}".encode()
    parents: dict[int, int] = {}
    family: set[int] = set()
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        fields = _stat_fields(pid)
        if fields is None or fields[0] == b"Z":
            continue
        parents[pid] = int(fields[1])
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                family.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    family.discard(os.getpid())
    for pid in family:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(family)


def _stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third (state) on; the name before may hold any byte."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def marked_below(variable: str, root: Path) -> list[int]:
    """Processes that were started with a path below ``root`` in this environment variable."""
    mark = f"{variable}={root}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "environ").read_bytes().split(b"\0")  # a zombie has none
                if any(word.startswith(mark) for word in words):
                    found.append(int(entry.name))
    return found


def kill_marked_below(variable: str, root: Path) -> int:
    """SIGKILL all of :func:`marked_below`; how many there were."""
    found = [pid for pid in marked_below(variable, root) if pid != os.getpid()]
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def lock_holder(path: Path) -> int | None:
    """Who has locked this file with flock, as far as this machine's processes may be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == file:
            return int(fields[4])
    return None
