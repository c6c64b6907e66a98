"""The host probe on this machine, and on file trees of machines with limits."""

import ctypes
import os
from pathlib import Path

import psutil
import pytest

from telemetry.probes.clock import clock_synchronized
from telemetry.probes.host import HostReader
from telemetry.samples import HostSample
from tests.machine import LEAST, V1_MOUNTS, V2_MOUNT, machine


def sample(root: Path, files: dict[str, str] | None = None) -> HostSample:
    machine(root, LEAST | (files or {}))
    return HostReader(disk=root, root=root).sample()


def test_this_machine_is_measured(tmp_path: Path) -> None:
    reader = HostReader(disk=tmp_path)
    inventory, sample = reader.inventory(), reader.sample()
    assert 0 < inventory.cpu_milli <= len(os.sched_getaffinity(0)) * 1000
    assert 0 < inventory.memory_mib <= psutil.virtual_memory().total >> 20
    assert inventory.disk_mib > 0
    assert inventory.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 0 < sample.memory_available_mib <= sample.memory_total_mib
    assert sample.cpu_user_seconds > 0
    assert sample.disk_total_mib == inventory.disk_mib
    assert sample.disk_free_mib is not None
    assert sample.disk_free_mib <= inventory.disk_mib
    assert sample.agent_memory_mib is not None
    assert sample.agent_memory_mib > 5


def test_counters_of_this_machine_do_not_go_back(tmp_path: Path) -> None:
    reader = HostReader(disk=tmp_path)
    before, after = reader.sample(), reader.sample()
    for name in ("cpu_user_seconds", "cpu_idle_seconds", "agent_cpu_seconds"):
        assert getattr(after, name) >= getattr(before, name), name


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
        pytest.param({}, len(os.sched_getaffinity(0)) * 1000, 16384, id="no groups at all"),
    ],
)
def test_capacity_is_the_least_of_machine_and_cgroups(
    tmp_path: Path, files: dict[str, str], cpu_milli: int, memory_mib: int
) -> None:
    inventory = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | files)).inventory()
    assert (inventory.cpu_milli, inventory.memory_mib) == (cpu_milli, memory_mib)


def test_memory_and_swap_are_the_machines_where_nothing_limits_them(tmp_path: Path) -> None:
    found = sample(tmp_path)
    assert (found.memory_total_mib, found.memory_available_mib) == (16384, 8192)
    assert (found.memory_cached_mib, found.memory_dirty_mib) == (4608, 20)
    assert (found.swap_total_mib, found.swap_used_mib) == (2048, 512)


def test_kernel_without_memavailable_has_free_and_cached_memory(tmp_path: Path) -> None:
    old = "".join(
        f"{line}\n" for line in LEAST["proc/meminfo"].splitlines() if "MemAvailable" not in line
    )
    assert sample(tmp_path, {"proc/meminfo": old}).memory_available_mib == 1024 + 4096


def test_huge_pages_of_all_sizes_are_counted_together(tmp_path: Path) -> None:
    folder = "sys/kernel/mm/hugepages"
    found = sample(
        tmp_path,
        {
            f"{folder}/hugepages-2048kB/nr_hugepages": "512\n",
            f"{folder}/hugepages-2048kB/free_hugepages": "256\n",
            f"{folder}/hugepages-1048576kB/nr_hugepages": "3\n",
            f"{folder}/hugepages-1048576kB/free_hugepages": "1\n",
        },
    )
    assert (found.huge_pages_total_mib, found.huge_pages_free_mib) == (1024 + 3072, 512 + 1024)


def test_pressure_is_read_and_absent_pressure_is_unknown(tmp_path: Path) -> None:
    found = sample(
        tmp_path,
        {
            "proc/pressure/memory": "some avg10=1.50 avg60=0 avg300=0 total=1\n"
            "full avg10=0.25 avg60=0 avg300=0 total=1\n"
        },
    )
    assert found.pressure_memory_some_percent == 1.5
    assert found.pressure_memory_full_percent == 0.25
    assert found.pressure_cpu_some_percent is None


def test_pressure_of_a_limited_group_is_what_is_felt_in_it(tmp_path: Path) -> None:
    found = sample(
        tmp_path,
        {
            "proc/self/cgroup": "0::/box\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/box/cpu.pressure": "some avg10=80.00 avg60=0 avg300=0 total=1\n",
            "proc/pressure/cpu": "some avg10=2.00 avg60=0 avg300=0 total=1\n",
            "proc/pressure/io": "some avg10=3.00 avg60=0 avg300=0 total=1\n",
        },
    )
    assert found.pressure_cpu_some_percent == 80.0
    assert found.pressure_io_some_percent == 3.0


def test_what_a_machine_does_not_show_is_unknown_and_never_zero(tmp_path: Path) -> None:
    found = sample(tmp_path)
    absent = (
        "load_1m huge_pages_total_mib disk_read_bytes disk_busy_seconds network_received_bytes"
        " network_errors infiniband_sent_bytes pressure_io_full_percent agent_cpu_seconds"
    )
    assert {name: getattr(found, name) for name in absent.split()} == dict.fromkeys(absent.split())
    assert (found.disks, found.networks) == ((), ())


@pytest.mark.parametrize("file", sorted(LEAST))
def test_machine_without_cpu_times_or_memory_can_not_be_sampled(tmp_path: Path, file: str) -> None:
    machine(tmp_path, LEAST | {file: ""})
    with pytest.raises(OSError, match=file):
        HostReader(disk=tmp_path, root=tmp_path).sample()


def test_clock_is_as_the_kernel_says() -> None:
    class Call(ctypes.Structure):
        _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 1024)]

    # ntp_adjtime(3): TIME_ERROR (5) is what the kernel returns for a clock that follows nothing.
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(Call(modes=0)))
    assert clock_synchronized() == {-1: None, 5: 0}.get(state, 1)
