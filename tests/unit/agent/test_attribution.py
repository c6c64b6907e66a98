import pytest

from agent.samples.attribution import TaskUse, attributed
from telemetry.samples import DeviceProcess, DeviceSample, TaskSample
from tests.unit.agent.looks import device, task

AGENT = 10
PARENTS = {AGENT: 1, 11: AGENT, 100: 1, 101: 100, 102: 100, 200: 1, 900: 1, 901: 1}


def process(pid: int, memory_mib: int | None = 100, percent: int | None = None) -> DeviceProcess:
    return DeviceProcess(pid=pid, memory_mib=memory_mib, utilization_percent=percent)


def use(*devices: str, pids: tuple[int, ...] = (100, 101, 102), whole: bool = True) -> TaskUse:
    return TaskUse(sample=task("a"), pids=frozenset(pids), devices=devices, whole=whole)


def sorted_out(
    devices: list[DeviceSample], *tasks: TaskUse
) -> tuple[tuple[DeviceSample, ...], tuple[TaskSample, ...]]:
    return attributed(devices, tasks, agent_pid=AGENT, parent_of=PARENTS.get)


def test_processes_on_a_device_are_of_a_task_or_foreign() -> None:
    held = device("GPU-a", processes=(process(101), process(900, 30), process(901, 12)))
    [seen], [a] = sorted_out([held], use("GPU-a"))
    assert (seen.process_count, seen.foreign_process_count, seen.foreign_memory_mib) == (3, 2, 42)
    assert (a.gpu_process_count, a.gpu_memory_mib) == (1, 100)


def test_the_agent_and_its_own_nvml_process_are_not_foreign() -> None:
    [seen], _ = sorted_out([device("GPU-a", processes=(process(AGENT), process(11)))])
    assert (seen.process_count, seen.foreign_process_count, seen.foreign_memory_mib) == (2, 0, 0)


def test_a_task_on_a_device_that_it_does_not_hold_is_not_foreign_and_not_counted() -> None:
    other = device("GPU-b", processes=(process(101),))
    devices, [a] = sorted_out([device("GPU-a", processes=()), other], use("GPU-a"))
    assert [one.foreign_process_count for one in devices] == [0, 0]
    assert a.gpu_process_count == 0


def test_a_pid_that_is_not_to_be_seen_makes_its_device_unknown_and_no_other() -> None:
    hidden = device("GPU-a", processes=(process(101), process(4242)))
    clear = device("GPU-b", processes=(process(900),))
    [seen, other], [a] = sorted_out([hidden, clear], use("GPU-a", "GPU-b"))
    assert (seen.process_count, seen.foreign_process_count, seen.foreign_memory_mib) == (
        2,
        None,
        None,
    )
    assert other.foreign_process_count == 1
    assert a.gpu_process_count is None


def test_an_unknown_process_list_is_neither_empty_nor_foreign() -> None:
    [seen], [a] = sorted_out([device("GPU-a")], use("GPU-a", whole=False))
    assert (seen.process_count, seen.foreign_process_count) == (None, None)
    assert (a.gpu_process_count, a.gpu_memory_mib, a.gpu_utilization_percent) == (None, None, None)


def test_a_lost_device_makes_its_task_unknown() -> None:
    _, [a] = sorted_out([device("GPU-a", processes=(process(101),))], use("GPU-a", "GPU-b"))
    assert (a.gpu_process_count, a.gpu_memory_mib, a.gpu_utilization_percent) == (None, None, None)


def test_a_held_device_without_a_process_is_zero_processes_and_zero_memory() -> None:
    _, [a] = sorted_out([device("GPU-a", processes=(), utilization_percent=0)], use("GPU-a"))
    assert (a.gpu_process_count, a.gpu_memory_mib, a.gpu_utilization_percent) == (0, 0, 0)


def test_memory_is_of_the_device_where_the_task_holds_most_and_a_process_counts_once() -> None:
    devices = [
        device("GPU-a", processes=(process(101, 100), process(102, 50))),
        device("GPU-b", processes=(process(101, 400),)),
    ]
    _, [a] = sorted_out(devices, use("GPU-a", "GPU-b"))
    assert (a.gpu_process_count, a.gpu_memory_mib) == (2, 400)


def test_foreign_memory_is_unknown_when_one_processs_is() -> None:
    [seen], _ = sorted_out([device("GPU-a", processes=(process(900), process(901, None)))])
    assert (seen.foreign_process_count, seen.foreign_memory_mib) == (2, None)


def test_utilization_is_that_of_its_processes_and_the_mean_over_its_devices() -> None:
    devices = [
        device(
            "GPU-a", utilization_percent=99, processes=(process(101, 1, 30), process(102, 1, 20))
        ),
        device(
            "GPU-b", utilization_percent=99, processes=(process(101, 1, 100), process(102, 1, 9))
        ),
    ]
    _, [a] = sorted_out(devices, use("GPU-a", "GPU-b"))
    assert a.gpu_utilization_percent == 75


@pytest.mark.parametrize(("whole", "percent"), [(True, 64), (False, None)])
def test_without_utilization_by_process_a_whole_devices_own_counts(
    whole: bool, percent: float | None
) -> None:
    held = device("GPU-a", utilization_percent=64, processes=(process(101),))
    _, [a] = sorted_out([held], use("GPU-a", whole=whole))
    assert a.gpu_utilization_percent == percent


def test_a_share_without_a_process_is_idle_while_others_work() -> None:
    held = device("GPU-a", utilization_percent=64, processes=(process(200),))
    other = TaskUse(sample=task("b"), pids=frozenset({200}), devices=("GPU-a",), whole=False)
    [seen], [a, b] = sorted_out([held], use("GPU-a", whole=False), other)
    assert seen.foreign_process_count == 0
    assert (a.gpu_process_count, a.gpu_utilization_percent) == (0, 0)
    assert (b.gpu_process_count, b.gpu_utilization_percent) == (1, None)


def test_in_a_pid_namespace_of_its_own_a_whole_device_still_tells_what_is_used() -> None:
    held = device("GPU-a", utilization_percent=64, memory_used_mib=700, processes=(process(4242),))
    _, [a] = sorted_out([held], use("GPU-a"))
    assert (a.gpu_process_count, a.gpu_memory_mib, a.gpu_utilization_percent) == (None, 700, 64)


def test_a_task_without_devices_says_nothing_of_them() -> None:
    _, [a] = sorted_out([device("GPU-a", processes=())], use())
    assert (a.gpu_process_count, a.gpu_memory_mib, a.gpu_utilization_percent) == (None, None, None)
