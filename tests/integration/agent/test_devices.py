"""What becomes of devices when tasks end, and of tasks that take more of one than their share, on a
machine with GPUs that the stand-in NVML plays."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from protocol.report import AllocationReport, AllocationState
from protocol.task import Overuse
from tests.agent_node import leave
from tests.agent_service import AgentService
from tests.gpu_node import BOX, GpuNode
from tests.nvml.build import DRIVER, GPU_0, GPU_1, MIG_BOX
from tests.waiting import DEADLINE_SECONDS

SLEEP = ("sleep", "600")


@pytest.fixture
def node(
    service: AgentService, tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GpuNode]:
    node = GpuNode(service, tmp_path, library)
    monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(node.world))
    yield node
    node.end()


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that the agent didn't start."""
    with subprocess.Popen(SLEEP) as process:
        yield process.pid
        process.kill()


def wanted(
    name: str,
    *devices: str,
    milli: int = 1000,
    memory_mib: int = 0,
    argv: tuple[str, ...] = SLEEP,
    overuse: Overuse = Overuse.WARN,
) -> DesiredAllocation:
    return DesiredAllocation(
        id=name,
        task=f"t-{name}",
        task_name=name,
        generation=1,
        phase=Phase.RUN,
        launch=Launch(argv=argv, grace_seconds=5.0, gpu_overuse=overuse),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        devices=devices,
        gpu_milli=milli,
        gpu_memory_mib=memory_mib,
    )


def used(gpu_0_mib: int) -> tuple[str, ...]:
    """Both GPUs, with so much in use on the first; it's 1024 MiB before anything starts."""
    return (*DRIVER, GPU_0.replace("used=1024", f"used={gpu_0_mib}"), GPU_1)


def run(service: AgentService, *allocations: DesiredAllocation) -> list[int]:
    """Their main processes, once they run."""
    service.desire(*allocations)
    reports = [service.wait_for_state(one.id, AllocationState.RUNNING) for one in allocations]
    return [report.pid or 0 for report in reports]


def wait_for_note(service: AgentService, name: str, words: str) -> AllocationReport:
    def told() -> bool:
        last = service.last(name)
        return last is not None and words in last.note

    service.wait(told, f"{name}: {words}")
    last = service.last(name)
    assert last is not None
    return last


def last_with_exit(service: AgentService, name: str) -> AllocationReport:
    service.wait_for_exit(name)
    return next(
        one
        for report in service.reports
        for one in report.allocations
        if one.id == name and one.exit is not None
    )


def test_an_end_is_told_only_when_the_memory_is_back(service: AgentService, node: GpuNode) -> None:
    node.play(*BOX)
    agent = node.start()
    run(service, wanted("a", "GPU-a"))
    node.play(*used(60_000))
    service.desire()
    note = wait_for_note(service, "a", "60000 MiB")
    assert note.state is AllocationState.STOPPING
    assert note.note == (
        "its devices: GPU-a has 60000 MiB in use without a process (before: 1024 MiB)"
    )
    node.play(*used(9_000))
    wait_for_note(service, "a", "9000 MiB")
    assert service.exits == {}
    node.play(*used(1_100))
    last = last_with_exit(service, "a")
    assert (last.held_devices, last.note) == ((), "")
    assert leave(agent) == 0, node.log.read_text()


def test_a_latched_utilization_keeps_no_device(service: AgentService, node: GpuNode) -> None:
    node.play(*BOX)
    agent = node.start()
    run(service, wanted("a", "GPU-b"))
    node.play(*DRIVER, GPU_0, GPU_1.replace("util=0", "util=100"))
    service.desire()
    assert last_with_exit(service, "a").held_devices == ()
    assert leave(agent) == 0, node.log.read_text()


def test_a_process_that_stays_is_named_and_its_device_given_up(
    service: AgentService, node: GpuNode, stranger: int
) -> None:
    node.play(*BOX)
    agent = node.start(release_seconds=3)
    run(service, wanted("a", "GPU-a", "GPU-b"))
    node.play(*BOX, f"process 1 {stranger} 300")
    service.desire()
    last = last_with_exit(service, "a")
    assert last.held_devices == ("GPU-b",)
    assert f"GPU-b is held by process {stranger} (sleep, 300 MiB) of nobody here" in last.note
    assert leave(agent) == 0, node.log.read_text()


@pytest.mark.parametrize("fault", ["hang * *", "fail 0 * 15"])
def test_a_device_that_cannot_be_seen_is_not_called_free(
    service: AgentService, node: GpuNode, fault: str
) -> None:
    node.play(*BOX)
    agent = node.start(release_seconds=3)
    run(service, wanted("a", "GPU-a"))
    node.play(*BOX, fault)
    service.desire()
    last = last_with_exit(service, "a")
    assert last.held_devices == ("GPU-a",)
    assert "GPU-a can't be looked at" in last.note
    assert leave(agent) == 0, node.log.read_text()


def test_a_share_is_free_though_its_neighbour_goes_on(service: AgentService, node: GpuNode) -> None:
    node.play(*BOX)
    agent = node.start()
    share = wanted("a", "GPU-a", milli=500)
    neighbour = wanted("b", "GPU-a", milli=500)
    pid, other = run(service, share, neighbour)
    node.play(*used(70_000), f"process 0 {pid} 30000", f"process 0 {other} 39000")
    service.desire(neighbour)
    wait_for_note(service, "a", f"GPU-a is held by process {pid} (not to be seen, 30000 MiB)")
    node.play(*used(70_000), f"process 0 {other} 39000")
    assert last_with_exit(service, "a").held_devices == ()
    node.play(*BOX)
    service.desire()
    assert last_with_exit(service, "b").held_devices == ()
    assert leave(agent) == 0, node.log.read_text()


def test_a_mig_device_is_judged_by_its_own_memory(service: AgentService, node: GpuNode) -> None:
    box = tuple(line for line in MIG_BOX if not line.startswith("process"))
    node.play(*box)
    agent = node.start()
    run(service, wanted("a", "MIG-a"))
    [(_, registration)] = service.registrations
    assert registration.labels["enforce.gpu_memory"] == "cooperative", "GPU-1 isn't divided"
    node.play(*(line.replace("used=2000", "used=30000") for line in box))
    service.desire()
    wait_for_note(service, "a", "MIG-a has 30000 MiB in use")
    node.play(*box)
    assert last_with_exit(service, "a").held_devices == ()
    assert leave(agent) == 0, node.log.read_text()


def test_an_agent_that_is_killed_while_it_waits_waits_on(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    first = node.start()
    run(service, wanted("a", "GPU-a"))
    node.play(*used(60_000))
    service.desire()
    wait_for_note(service, "a", "60000 MiB")
    first.kill()
    first.wait(DEADLINE_SECONDS)
    reports = len(service.reports)
    second = node.start()
    service.wait(lambda: len(service.reports) > reports, "the next agent reports")
    wait_for_note(service, "a", "60000 MiB in use without a process (before: 1024 MiB)")
    assert service.exits == {}
    node.play(*BOX)
    assert last_with_exit(service, "a").held_devices == ()
    assert leave(second) == 0, node.log.read_text()


def test_a_share_is_told_to_the_program_and_asked_of_its_torch(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    agent = node.start()
    show = "import os; print(*(f'{k}={v}' for k, v in os.environ.items()), sep='\\n', flush=True)"
    share = wanted("a", "GPU-a", milli=460, argv=("python", "-c", show))
    service.desire(share)
    service.wait_for_exit("a")
    service.wait(lambda: "STOWPLAN_GPU" in service.text("a"), "its output")
    told = dict(line.split("=", 1) for line in service.text("a").splitlines() if "=" in line)
    assert told["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert told["STOWPLAN_GPU_SHARE"] == "0.46"
    assert told["STOWPLAN_GPU_MEMORY_MIB"] == "37683"
    assert told["STOWPLAN_GPU_ENFORCED"] == "cooperative"
    assert told["PYTORCH_CUDA_ALLOC_CONF"] == "per_process_memory_fraction:0.4474"
    assert leave(agent) == 0, node.log.read_text()


def test_overuse_is_warned_of_and_then_stopped_where_the_task_says_so(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    agent = node.start(gpu_overuse_seconds=2)
    mild = wanted("a", "GPU-a", milli=500, memory_mib=10_000)
    strict = wanted("b", "GPU-a", milli=500, memory_mib=10_000, overuse=Overuse.STOP)
    pid, other = run(service, mild, strict)
    node.play(*BOX, f"process 0 {pid} 20000", f"process 0 {other} 30000")
    wait_for_note(service, "a", "it uses 20,000 MiB of GPU-a, and its share is 10,000 MiB")
    wait_for_note(service, "b", "(it's stopped if that lasts for 2 s)")
    service.wait_for_state("b", AllocationState.STOPPING)
    node.play(*BOX, f"process 0 {pid} 20000")
    how = service.wait_for_exit("b")
    assert (how.stopped, how.cause) == (True, StopCause.OVERUSE)
    assert "2 s after it was warned, it uses 30,000 MiB of GPU-a" in how.reason
    last = service.last("a")
    assert last is not None
    assert last.state is AllocationState.RUNNING, "the other one's task says warn"
    node.play(*BOX)

    def cleared() -> bool:
        last = service.last("a")
        return last is not None and last.note == ""

    service.wait(cleared, "the warning is taken back")
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0, node.log.read_text()


def test_who_uses_a_device_that_it_does_not_hold_is_told(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    agent = node.start()
    [pid] = run(service, wanted("a", "GPU-a"))
    node.play(*BOX, f"process 1 {pid} 300")
    note = wait_for_note(service, "a", f"it uses GPU-b, which it doesn't hold (process {pid})")
    assert note.state is AllocationState.RUNNING
    node.play(*BOX)
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0, node.log.read_text()


def test_simulated_devices_are_free_at_once(service: AgentService, node: GpuNode) -> None:
    agent = node.start(simulated_devices="1")
    run(service, wanted("a", "SIM-n1-0", milli=500))
    assert not any(name == "enforce.gpu_memory" for name in service.registrations[0][1].labels)
    service.desire()
    assert last_with_exit(service, "a").held_devices == ()
    assert leave(agent) == 0, node.log.read_text()
    assert os.getpid() not in node.alive()
