"""Machines made of files: what the kernel would show under / of another one than this."""

from collections.abc import Mapping
from pathlib import Path

GIB = 1 << 30

LEAST = {
    "proc/stat": (
        "cpu  100 20 30 400 50 6 4 70 0 0\n"
        "cpu0 60 10 20 250 30 3 2 40 0 0\n"
        "cpu1 40 10 10 150 20 3 2 30 0 0\n"
        "intr 12345 1 2 3\n"
    ),
    "proc/meminfo": (
        "MemTotal:       16777216 kB\n"
        "MemFree:         1048576 kB\n"
        "MemAvailable:    8388608 kB\n"
        "Buffers:          524288 kB\n"
        "Cached:          4194304 kB\n"
        "SwapTotal:       2097152 kB\n"
        "SwapFree:        1572864 kB\n"
        "Dirty:             20480 kB\n"
        "HugePages_Total:       0\n"
    ),
}
"""Without these two a machine can't be sampled at all: 16 GiB, two CPUs."""

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """Put files under a folder, or new ones in place of old ones."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
