"""What a task finds in its environment."""

from pathlib import Path

import pytest

from agent.environment import Base, make_base, task_environment
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.task import AskBy, Checkpoint

BASE = Base(node="n1", path="/opt/bin:/usr/bin", variables={"HOME": "/root"})


def environment(
    *,
    env: dict[str, str] | None = None,
    devices: tuple[str, ...] = (),
    cpu_milli: int = 0,
    grace_seconds: float = 30.0,
    checkpoint: Checkpoint | None = None,
    gang: Gang | None = None,
) -> dict[str, str]:
    allocation = DesiredAllocation(
        id="a-1",
        task="t-1",
        task_name="train",
        generation=3,
        phase=Phase.RUN,
        devices=devices,
        cpu_milli=cpu_milli,
        launch=Launch(
            argv=("true",), env=env or {}, grace_seconds=grace_seconds, checkpoint=checkpoint
        ),
        gang=gang or Gang(rank=0, size=1, master_address="10.0.0.1"),
    )
    return task_environment(
        BASE,
        allocation,
        port=20_005,
        master_port=20_007,
        artifacts=Path("/artifacts"),
        control=Path("/control"),
        ranks=Path("/ranks"),
    )


def test_devices_are_named_by_uuid_in_the_order_given() -> None:
    found = environment(devices=("GPU-b", "GPU-a"))
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-a"
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert found["PET_NPROC_PER_NODE"] == "2"


@pytest.mark.parametrize("devices", [(), ("SIM-n1-0",)])
def test_a_task_without_a_real_device_sees_no_gpu_at_all(devices: tuple[str, ...]) -> None:
    found = environment(devices=devices)
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["STOWPLAN_DEVICES"] == ",".join(devices)
    assert found["PET_NPROC_PER_NODE"] == "1"


def test_the_spec_beats_the_base_and_the_agent_beats_the_spec() -> None:
    found = environment(env={"HOME": "/data", "PORT": "1", "CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert (found["HOME"], found["PORT"], found["CUDA_VISIBLE_DEVICES"]) == ("/data", "20005", "")


def test_a_rank_finds_its_gang() -> None:
    found = environment(gang=Gang(rank=2, size=4, master_address="10.0.0.9"))
    expected = {
        "RANK": "2",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "10.0.0.9",
        "MASTER_PORT": "20007",
        "PET_NNODES": "4",
        "PET_NODE_RANK": "2",
        "PET_RDZV_ID": "t-1-3",
        "STOWPLAN_GENERATION": "3",
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("cpu_milli", "spec", "threads"), [(0, {}, "1"), (3500, {}, "3"), (8000, {"X": "1"}, "8")]
)
def test_threads_follow_the_cpus_asked_for(
    cpu_milli: int, spec: dict[str, str], threads: str
) -> None:
    assert environment(cpu_milli=cpu_milli, env=spec)["OMP_NUM_THREADS"] == threads


def test_threads_of_the_spec_are_kept() -> None:
    assert environment(cpu_milli=8000, env={"OMP_NUM_THREADS": "2"})["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("grace_seconds", "shutdown"), [(0, "1"), (8, "4"), (30, "20"), (300, "290")]
)
def test_torchrun_gives_up_before_its_grace_is_over(grace_seconds: float, shutdown: str) -> None:
    assert environment(grace_seconds=grace_seconds)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == shutdown


def test_the_base_takes_nothing_from_the_agent_but_what_concerns_the_machine() -> None:
    base = make_base(
        node="n1",
        path="/usr/bin",
        inherited={"HOME": "/root", "STOWPLAN_JOIN_TOKEN": "secret", "PYTHONPATH": "/x"},
        nvml_library=None,
    )
    assert base.variables == {"HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}


def test_the_folder_of_a_stand_in_nvml_is_hidden_from_tasks(tmp_path: Path) -> None:
    base = make_base(
        node="n1",
        path="/usr/bin",
        inherited={"LD_LIBRARY_PATH": f"{tmp_path}:/usr/local/cuda/lib64"},
        nvml_library=tmp_path / "libnvidia-ml.so.1",
    )
    assert base.variables["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"


@pytest.mark.parametrize(
    ("ask", "shutdown"), [(AskBy.FILE, "110"), (AskBy.SIGUSR1, "110"), (AskBy.SIGTERM, "130")]
)
def test_torchrun_never_cuts_a_checkpoint_short(ask: AskBy, shutdown: str) -> None:
    found = environment(grace_seconds=120, checkpoint=Checkpoint(ask=ask, ack_seconds=10))
    assert found["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == shutdown
    assert found["STOWPLAN_CHECKPOINT_ASK"] == ask


def test_a_program_finds_where_it_is_asked_and_tells_how_far_it_is() -> None:
    found = environment(env={"STOWPLAN_CONTROL": "/elsewhere", "STOWPLAN_CHECKPOINTS": "/mine"})
    assert found["STOWPLAN_CONTROL"] == "/control"
    assert found["STOWPLAN_CHECKPOINTS"] == "/mine"
    assert "STOWPLAN_CHECKPOINT_ASK" not in found
