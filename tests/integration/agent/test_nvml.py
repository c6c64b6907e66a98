"""A running agent on a machine with GPUs, which the stand-in NVML plays."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.report import AllocationState
from protocol.samples import SampleBatch
from telemetry.samples import DeviceEventKind
from tests.agent_node import leave
from tests.agent_service import AgentService
from tests.full_disk import no_file_beyond
from tests.gpu_node import BOX, GpuNode
from tests.nvml.build import DRIVER, GPU_0, GPU_1
from tests.waiting import DEADLINE_SECONDS


@pytest.fixture
def node(
    service: AgentService, tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GpuNode]:
    node = GpuNode(service, tmp_path, library)
    monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(node.world))
    yield node
    node.end()


def newest(service: AgentService) -> SampleBatch:
    return max(service.batches.values(), key=lambda batch: batch.seq)


def of_devices(batch: SampleBatch, name: str) -> dict[str, float | None]:
    """One column of a batch, by device."""
    if batch.devices is None:
        return {}
    values = batch.devices.values.model_dump()[name] or [None] * len(batch.devices.keys)
    return dict(zip(batch.devices.keys, values, strict=True))


def of_task(batch: SampleBatch, name: str) -> float | None:
    if batch.tasks is None:
        return None
    [value] = batch.tasks.values.model_dump()[name] or [None]
    return value


def test_a_task_has_what_its_processes_use_and_what_nobody_here_started_is_foreign(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    agent = node.start()
    task = DesiredAllocation(
        id="a",
        task="t1",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        launch=Launch(argv=("sleep", "600"), grace_seconds=20.0),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        devices=("GPU-a",),
    )
    service.desire(task)
    pid = service.wait_for_state("a", AllocationState.RUNNING).pid
    node.play(*BOX, f"process 0 {pid} 700", f"used 0 {pid} 55", f"process 1 {os.getpid()} 300")

    def told() -> bool:
        batch = newest(service)
        foreign = of_devices(batch, "foreign_process_count")
        return of_task(batch, "gpu_process_count") == 1 and foreign.get("GPU-b") == 1

    service.wait(lambda: service.batches and told(), "both GPUs' processes are known")
    batch = newest(service)
    assert of_task(batch, "gpu_memory_peak_mib") == 700
    assert of_task(batch, "gpu_utilization_percent") == 55
    assert of_devices(batch, "process_count") == {"GPU-a": 1, "GPU-b": 1}
    assert of_devices(batch, "foreign_process_count") == {"GPU-a": 0, "GPU-b": 1}
    assert of_devices(batch, "foreign_memory_mib") == {"GPU-a": 0, "GPU-b": 300}
    node.play(*BOX, "process 0 4194304 700", f"process 1 {os.getpid()} 300")
    service.wait(
        lambda: of_devices(newest(service), "foreign_process_count") == {"GPU-a": None, "GPU-b": 1},
        "a pid that nobody can see makes its device unknown",
    )
    assert of_task(newest(service), "gpu_process_count") is None
    node.play(*BOX)
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0, node.log.read_text()


def test_an_xid_is_told_until_it_is_settled_though_the_agent_is_killed(
    service: AgentService, node: GpuNode
) -> None:
    watched = tuple(f"{gpu} events=264" for gpu in (GPU_0, GPU_1))
    node.play(*DRIVER, *watched)
    service.settles_events = False
    first = node.start()
    service.wait(lambda: bool(service.batches), "the GPUs are watched")
    node.play(*DRIVER, *watched, "xid 0 79")
    service.wait(lambda: bool(service.events), "the Xid is told")
    first.kill()
    first.wait(DEADLINE_SECONDS)
    node.play(*DRIVER, *watched)
    [(key, event)] = service.events.items()
    assert (event.kind, event.uuid, event.code) == (DeviceEventKind.XID, "GPU-a", 79)
    with service.changed:
        service.events.clear()
        service.settles_events = True
    second = node.start()
    service.wait(lambda: bool(service.events), "the next agent tells it")
    assert service.events == {key: event}
    assert leave(second) == 0


def test_an_nvml_that_hangs_leaves_the_agent_live_and_the_host_measured(
    service: AgentService, node: GpuNode
) -> None:
    node.play(*BOX)
    agent = node.start()
    service.wait(
        lambda: any(batch.devices is not None for batch in service.batches.values()),
        "rows of the GPUs",
    )
    node.play(*BOX, "hang * *")
    service.wait(lambda: newest(service).devices is None, "no more rows of the GPUs")
    reports, batches = len(service.reports), len(service.batches)
    service.wait(lambda: len(service.batches) >= batches + 3, "rows of the host go on")
    assert newest(service).host is not None
    assert newest(service).devices is None, "what isn't known is left out, never zero"
    assert len(service.reports) > reports
    assert leave(agent) == 0, node.log.read_text()


def test_on_a_full_disk_the_agent_lives_on_and_no_event_is_lost(
    service: AgentService, node: GpuNode
) -> None:
    watched = tuple(f"{gpu} events=264" for gpu in (GPU_0, GPU_1))
    node.play(*DRIVER, *watched)
    agent = node.start()
    service.wait(lambda: bool(service.batches), "the GPUs are watched")
    with no_file_beyond(0, agent.pid):
        node.play(*DRIVER, *watched, "xid 0 79")
        reports, batches = len(service.reports), len(service.batches)
        service.wait(lambda: len(service.batches) >= batches + 3, "measurements go on")
        assert len(service.reports) > reports
        assert service.events == {}, "nothing is told that the next run could number anew"
    service.wait(lambda: bool(service.events), "the event is told")
    [event] = service.events.values()
    assert event.code == 79
    assert leave(agent) == 0, node.log.read_text()
