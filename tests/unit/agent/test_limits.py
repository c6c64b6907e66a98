"""What a task is held to, as numbers."""

import pytest

from agent.confining.limits import (
    NOFILE,
    OVERUSE_SECONDS,
    Topology,
    Verdict,
    Version,
    judge_memory,
    labels_of,
    limits_of,
    near_cpus,
    whole_of,
)
from protocol.desired import DesiredAllocation, Gang, Launch, Phase

TWO_NODES = Topology(cpus=tuple(range(8)), numa={0: (0, 1, 2, 3), 1: (4, 5, 6, 7)})
ALL_V2 = dict.fromkeys(("cpu", "memory", "pids", "cpuset"), Version.V2)
ALL_V1 = dict.fromkeys(("cpu", "memory", "pids", "cpuset"), Version.V1)
HARD = {"nofile": 20_000, "memlock": 8 << 20}


def wanted(
    *, cpu_milli: int = 0, memory_mib: int = 0, pids_max: int | None = None
) -> DesiredAllocation:
    return DesiredAllocation(
        id="a",
        task="t",
        task_name="t",
        generation=1,
        phase=Phase.RUN,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        launch=Launch(argv=("true",), grace_seconds=1, pids_max=pids_max),
        gang=Gang(rank=0, size=1, master_address="10.0.0.1"),
    )


def files(
    allocation: DesiredAllocation,
    enforced: dict[str, Version],
    *,
    topology: Topology = TWO_NODES,
    device_numa: tuple[int | None, ...] = (),
) -> dict[str, str]:
    limits = limits_of(allocation, topology, enforced, device_numa=device_numa, hard=HARD)
    return {setting.file: setting.value for setting in limits.settings}


def test_version_2_weighs_processors_caps_memory_and_processes_and_keeps_near_the_devices() -> None:
    allocation = wanted(cpu_milli=2000, memory_mib=1000, pids_max=64)
    assert files(allocation, ALL_V2, device_numa=(1,)) == {
        "cpu.weight": "200",
        "cpuset.cpus": "4,5,6,7",
        "memory.high": str(1000 * 2**20 * 95 // 100),
        "memory.max": str(1000 * 2**20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "64",
    }


def test_version_1_has_words_of_its_own_for_the_same() -> None:
    allocation = wanted(cpu_milli=500, memory_mib=10, pids_max=3)
    assert files(allocation, ALL_V1) == {
        "cpu.shares": "512",
        "memory.limit_in_bytes": str(10 * 2**20),
        "memory.memsw.limit_in_bytes": str(10 * 2**20),
        "memory.swappiness": "0",
        "pids.max": "3",
    }


def test_a_task_that_asked_for_nothing_has_no_memory_limit_a_small_weight_and_many_processes() -> (
    None
):
    topology = Topology(cpus=(0, 1), pids_max=4_000_000)
    assert files(wanted(), ALL_V2, topology=topology) == {"cpu.weight": "10", "pids.max": "16384"}


def test_no_task_may_take_more_than_a_quarter_of_a_small_machines_processes() -> None:
    topology = Topology(cpus=(0,), pids_max=32_768)
    assert files(wanted(), ALL_V1, topology=topology)["pids.max"] == "8192"


@pytest.mark.parametrize(("cpu_milli", "weight"), [(1, "1"), (300_000, "10000"), (3_000, "100")])
def test_weights_stay_in_proportion_on_the_largest_nodes(cpu_milli: int, weight: str) -> None:
    topology = Topology(cpus=tuple(range(300)))
    assert files(wanted(cpu_milli=cpu_milli), ALL_V2, topology=topology)["cpu.weight"] == weight


def test_all_tasks_together_weigh_what_the_node_has() -> None:
    assert [s.value for s in whole_of(TWO_NODES, ALL_V1)] == [str(8 * 1024)]
    assert whole_of(TWO_NODES, {}) == ()


@pytest.mark.parametrize(
    ("cpu_milli", "device_numa", "cpus"),
    [
        (1000, (0,), (0, 1, 2, 3)),
        (1000, (0, 0), (0, 1, 2, 3)),
        (1000, (0, 1), None),  # all of them: nothing to say
        (4001, (0,), None),  # too few near ones
        (1000, (None,), None),
        (1000, (0, None), None),
        (1000, (7,), None),
        (1000, (), None),
    ],
)
def test_a_task_runs_near_its_devices_where_that_is_known_and_enough(
    cpu_milli: int, device_numa: tuple[int | None, ...], cpus: tuple[int, ...] | None
) -> None:
    assert near_cpus(cpu_milli, TWO_NODES, device_numa) == cpus


def test_processors_that_the_agent_may_not_use_are_no_task_s_either() -> None:
    topology = Topology(cpus=(1, 2, 9), numa={0: (0, 1, 2, 3), 1: (8, 9)})
    assert near_cpus(1000, topology, (0,)) == (1, 2)


def test_without_groups_a_task_has_affinity_and_resource_limits_but_never_on_addresses() -> None:
    limits = limits_of(wanted(memory_mib=10), TWO_NODES, {}, device_numa=(0,), hard=HARD)
    assert limits.settings == ()
    assert limits.cpus == (0, 1, 2, 3)
    assert limits.resources == {
        "core": [0, 0],
        "nofile": [20_000, 20_000],
        "memlock": [8 << 20, 8 << 20],
    }


def test_open_files_are_raised_as_far_as_is_of_use_and_may_be_raised_further() -> None:
    limits = limits_of(wanted(), TWO_NODES, {}, device_numa=(), hard={"nofile": -1})
    assert limits.resources["nofile"] == [NOFILE, -1]


def test_a_node_says_how_it_holds_tasks_to_their_word() -> None:
    assert labels_of({"memory": Version.V2, "pids": Version.V1}, affinity=True) == {
        "enforce.cpu": "affinity",
        "enforce.memory": "cgroup2",
        "enforce.pids": "cgroup1",
    }
    assert labels_of({}, affinity=False) == {
        "enforce.cpu": "none",
        "enforce.memory": "watch",
        "enforce.pids": "none",
    }


@pytest.mark.parametrize(
    ("used", "asked", "over_seconds", "verdict"),
    [
        (10, 0, 99, Verdict.FINE),
        (100, 100, 99, Verdict.FINE),
        (101, 100, 0, Verdict.WARN),
        (101, 100, OVERUSE_SECONDS, Verdict.STOP),
        (151, 100, 0, Verdict.STOP),
    ],
)
def test_memory_that_only_we_watch_is_warned_of_and_then_stopped(
    used: float, asked: int, over_seconds: float, verdict: Verdict
) -> None:
    assert judge_memory(used, asked, over_seconds=over_seconds) is verdict
