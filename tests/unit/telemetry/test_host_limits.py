"""A host seen from inside a container: what is used of the limits, not of the machine."""

import os
from pathlib import Path

import pytest

from telemetry.probes.host import HostReader
from tests.machine import GIB, LEAST, V1_MOUNTS, V2_MOUNT, machine

V2 = {
    "proc/self/cgroup": "0::/box/inner\n",
    "proc/self/mountinfo": V2_MOUNT,
    "proc/uptime": "1000.00 1500.00\n",
    "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/box/cpu.stat": "usage_usec 90000000\nuser_usec 60000000\nsystem_usec 30000000\n",
    "sys/fs/cgroup/box/inner/cpu.max": "max 100000\n",
    "sys/fs/cgroup/box/inner/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/box/inner/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/box/inner/memory.stat": (
        f"anon {GIB}\nfile {2 * GIB}\nfile_dirty {GIB // 2}\ninactive_file {GIB}\n"
    ),
    "sys/fs/cgroup/box/inner/memory.swap.max": f"{GIB // 2}\n",
    "sys/fs/cgroup/box/inner/memory.swap.current": f"{GIB // 4}\n",
}
V1 = {
    "proc/self/cgroup": "2:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
    "proc/self/mountinfo": V1_MOUNTS,
    "proc/uptime": "1000.00 1500.00\n",
    "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/docker/x/cpuacct.stat": (
        f"user {60 * os.sysconf('SC_CLK_TCK')}\nsystem {30 * os.sysconf('SC_CLK_TCK')}\n"
    ),
    "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory/docker/x/memory.stat": (
        f"inactive_file 1\ntotal_cache {2 * GIB}\ntotal_dirty {GIB // 2}\n"
        f"total_inactive_file {GIB}\n"
    ),
}


@pytest.mark.parametrize("files", [pytest.param(V2, id="v2"), pytest.param(V1, id="v1")])
def test_memory_and_cpu_are_those_of_the_limited_group(
    tmp_path: Path, files: dict[str, str]
) -> None:
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | files)).sample()
    assert (found.memory_total_mib, found.memory_available_mib) == (4096, 2048)
    assert (found.memory_cached_mib, found.memory_dirty_mib) == (2048, 512)
    assert (found.cpu_user_seconds, found.cpu_system_seconds) == (60.0, 30.0)
    assert found.cpu_idle_seconds == 1000 / 2 - 90
    assert (found.cpu_iowait_seconds, found.cpu_steal_seconds) == (None, None)


def test_swap_is_what_the_group_may_swap(tmp_path: Path) -> None:
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | V2)).sample()
    assert (found.swap_total_mib, found.swap_used_mib) == (512, 256)


def test_full_outer_group_leaves_nothing_in_an_inner_one(tmp_path: Path) -> None:
    outer = {
        "sys/fs/cgroup/box/memory.max": f"{8 * GIB}\n",
        "sys/fs/cgroup/box/memory.current": f"{8 * GIB}\n",
    }
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | V2 | outer)).sample()
    assert (found.memory_total_mib, found.memory_available_mib) == (4096, 0)


def test_limit_above_the_machines_memory_is_no_limit(tmp_path: Path) -> None:
    wide = V2 | {"sys/fs/cgroup/box/inner/memory.max": f"{64 * GIB}\n"}
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | wide)).sample()
    assert (found.memory_total_mib, found.memory_available_mib) == (16384, 8192)


@pytest.mark.parametrize(
    ("used_seconds", "quota", "idle_grows"),
    [
        pytest.param(2, "50000 100000", 3.0, id="what the quota leaves"),
        pytest.param(9, "50000 100000", 0.0, id="a burst over the quota"),
        pytest.param(2, "30000 100000", 1.0, id="a quota that was lowered"),
    ],
)
def test_idle_time_of_a_group_never_falls(
    tmp_path: Path, used_seconds: int, quota: str, idle_grows: float
) -> None:
    reader = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | V2))
    before = reader.sample().cpu_idle_seconds
    stat = f"user_usec {(60 + used_seconds) * 1_000_000}\nsystem_usec 30000000\n"
    box = "sys/fs/cgroup/box"
    later = {"proc/uptime": "1010 1\n", f"{box}/cpu.stat": stat, f"{box}/cpu.max": f"{quota}\n"}
    machine(tmp_path, later)
    assert reader.sample().cpu_idle_seconds - before == pytest.approx(idle_grows)


def test_group_that_does_not_tell_its_time_leaves_the_machines(tmp_path: Path) -> None:
    silent = V2 | {"sys/fs/cgroup/box/cpu.stat": ""}
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | silent)).sample()
    assert found.cpu_steal_seconds is not None


@pytest.mark.parametrize(
    ("group", "user_seconds"),
    [
        pytest.param("/docker/x", 7.0, id="its own group there counts"),
        pytest.param("/", 120 / os.sysconf("SC_CLK_TCK"), id="of the root, it's the machine's"),
    ],
)
def test_cpu_time_in_another_tree_than_the_quota(
    tmp_path: Path, group: str, user_seconds: float
) -> None:
    apart = V1 | {
        "proc/self/cgroup": f"2:cpu:/docker/x\n4:cpuacct:{group}\n",
        "proc/self/mountinfo": V1_MOUNTS.replace("rw,cpu,cpuacct", "rw,cpu")
        + "33 23 0:29 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n",
        "sys/fs/cgroup/cpu/docker/x/cpuacct.stat": "",
        f"sys/fs/cgroup/cpuacct{group}/cpuacct.stat": (
            f"user {7 * os.sysconf('SC_CLK_TCK')}\nsystem 0\n"
        ),
    }
    found = HostReader(disk=tmp_path, root=machine(tmp_path, LEAST | apart)).sample()
    assert found.cpu_user_seconds == user_seconds


def test_cpus_outside_the_affinity_mask_do_not_count(tmp_path: Path) -> None:
    own = min(os.sched_getaffinity(0))
    others = {"cpu": 900, f"cpu{own}": 100, "cpu998": 300, "cpu999": 500}
    ticks = os.sysconf("SC_CLK_TCK")
    lines = [f"{name} {n * ticks} 0 0 0 0 0 0 0 0 0\n" for name, n in others.items()]
    previous = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {own})
    try:
        machine(tmp_path, LEAST | {"proc/stat": "".join(lines)})
        found = HostReader(disk=tmp_path, root=tmp_path).sample()
    finally:
        os.sched_setaffinity(0, previous)
    assert found.cpu_user_seconds == 100
