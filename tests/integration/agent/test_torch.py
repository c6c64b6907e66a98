"""Gangs of real torch programs over two agents, and devices as tasks see them."""

import shutil
from pathlib import Path

import pytest

from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.report import AllocationState
from tests.agent_node import Node, leave
from tests.agent_service import AgentService
from tests.nvml.build import NVLINK_BOX, build, write_script

# One program for both ways of starting it: each rank adds its number plus one, and prints the sum.
ALL_REDUCE = """\
import os
import torch
import torch.distributed as dist

dist.init_process_group("gloo", init_method="env://")
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
print(f"rank {dist.get_rank()} of {dist.get_world_size()}: {total.item():g}", flush=True)
dist.destroy_process_group()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "all_reduce.py"
    path.write_text(ALL_REDUCE)
    return path


def replica(
    rank: int, argv: tuple[str, ...], phase: Phase, master_port: int | None
) -> DesiredAllocation:
    return DesiredAllocation(
        id=f"r{rank}",
        task="t1",
        task_name="train",
        generation=1,
        phase=phase,
        launch=Launch(argv=argv, grace_seconds=5.0),
        gang=Gang(rank=rank, size=2, master_address="127.0.0.1", master_port=master_port),
    )


@pytest.mark.parametrize("starter", ["python", "torchrun"])
def test_two_replicas_join_one_gang_unmodified(
    service: AgentService, tmp_path: Path, program: Path, starter: str
) -> None:
    node = Node(service, tmp_path)
    agent = node.start()
    argv = (starter, str(program))
    try:
        service.desire(*(replica(rank, argv, Phase.PREPARE, None) for rank in range(2)))
        ready = [service.wait_for_state(f"r{rank}", AllocationState.READY) for rank in range(2)]
        port = ready[0].port
        service.desire(*(replica(rank, argv, Phase.RUN, port) for rank in range(2)))
        exits = [service.wait_for_exit(f"r{rank}") for rank in range(2)]
        output = "".join(service.text(f"r{rank}") for rank in range(2))
        assert [(how.code, how.reason) for how in exits] == [(0, ""), (0, "")], output
        assert "rank 0 of 2: 3" in service.text("r0")
        assert "rank 1 of 2: 3" in service.text("r1")
        assert leave(agent) == 0
    finally:
        node.end()
    assert node.alive() == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) for the stand-in NVML")
def test_a_stand_in_nvml_serves_the_agent_and_is_not_seen_by_tasks(
    service: AgentService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, script = build(tmp_path), tmp_path / "world"
    write_script(script, *NVLINK_BOX)
    monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(script))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    node = Node(service, tmp_path)
    agent = node.start(nvml=True, nvml_library=str(library))
    look = (
        "import contextlib, ctypes, os; print(os.environ['CUDA_VISIBLE_DEVICES']);"
        " print('LD_LIBRARY_PATH' in os.environ, 'STANDIN_NVML_SCRIPT' in os.environ)\n"
        "with contextlib.suppress(OSError): ctypes.CDLL('libnvidia-ml.so.1')\n"
        f"print({str(library)!r} in open('/proc/self/maps').read())"
    )
    wanted = replica(0, ("python", "-c", look), Phase.RUN, None).model_copy(
        update={
            "devices": ("GPU-b",),
            "gang": Gang(rank=0, size=1, master_address="127.0.0.1"),
        }
    )
    try:
        service.wait(lambda: bool(service.registrations), "the node has joined")
        [(_, form)] = service.registrations
        assert [device.uuid for device in form.inventory.devices] == ["GPU-a", "GPU-b"]
        service.desire(wanted)
        assert service.wait_for_exit("r0").code == 0
        assert service.text("r0") == "GPU-b\nFalse False\nFalse\n"
        write_script(script, *NVLINK_BOX, "fail 1 * 15")
        service.wait(
            lambda: any(
                report.inventory is not None and not report.inventory.devices[1].healthy
                for report in service.reports
            ),
            "the lost GPU is reported",
        )
        assert leave(agent) == 0
    finally:
        node.end()
    assert node.alive() == []
