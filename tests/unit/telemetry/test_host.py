"""The host probe on this machine, and on file trees of machines with limits."""

import os
from pathlib import Path

import psutil
import pytest

from telemetry.probes.host import HostReader

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_is_measured(tmp_path: Path) -> None:
    reader = HostReader(disk=tmp_path)
    inventory, sample = reader.inventory(), reader.sample()
    assert 0 < inventory.cpu_milli <= len(os.sched_getaffinity(0)) * 1000
    assert 0 < inventory.memory_mib <= psutil.virtual_memory().total >> 20
    assert inventory.disk_mib > 0
    assert inventory.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 0 < sample.memory_available_mib <= sample.memory_total_mib
    assert sample.cpu_user_seconds > 0


@pytest.mark.parametrize(
    ("files", "cpu_milli", "memory_mib"),
    [
        pytest.param(
            {
                "proc/self/cgroup": "0::/box/inner\n",
                "proc/self/mountinfo": V2_MOUNT,
                "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/box/memory.max": "max\n",
                "sys/fs/cgroup/box/inner/cpu.max": "max 100000\n",
                "sys/fs/cgroup/box/inner/memory.max": "268435456\n",
            },
            500,
            256,
            id="v2, the quota of an outer group counts",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
                "proc/self/mountinfo": V1_MOUNTS,
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "134217728\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            250,
            128,
            id="v1, the number for no limit is none",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/docker/x\n",
                "proc/self/mountinfo": V2_MOUNT.replace("0:26 /", "0:26 /docker/x"),
                "sys/fs/cgroup/cpu.max": "30000 100000\n",
                "sys/fs/cgroup/memory.max": "67108864\n",
            },
            300,
            64,
            id="v2 inside a container that sees its own group as root",
        ),
    ],
)
def test_capacity_is_the_least_of_machine_and_cgroups(
    tmp_path: Path, files: dict[str, str], cpu_milli: int, memory_mib: int
) -> None:
    inventory = HostReader(disk=tmp_path, root=tree(tmp_path, files)).inventory()
    assert (inventory.cpu_milli, inventory.memory_mib) == (cpu_milli, memory_mib)


def test_pressure_is_read_and_absent_pressure_is_unknown(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/pressure/memory": "some avg10=1.50 avg60=0 avg300=0 total=1\n"
            "full avg10=0.25 avg60=0 avg300=0 total=1\n"
        },
    )
    sample = HostReader(disk=tmp_path, root=tmp_path).sample()
    assert sample.pressure_memory_some_percent == 1.5
    assert sample.pressure_memory_full_percent == 0.25
    assert sample.pressure_cpu_some_percent is None
