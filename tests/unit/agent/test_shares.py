"""What a program is told of its devices, and what keeps it within its part of them."""

from pathlib import Path

import pytest

from agent.devices.shares import (
    Offer,
    Strength,
    device_environment,
    memory_limit_mib,
    merged_options,
    node_labels,
    strength,
)
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from telemetry.samples import DeviceInventory

H100 = {"GPU-a": 81_559, "MIG-a": 40_448}


def wanted(
    *devices: str, milli: int = 1000, memory_mib: int = 0, env: dict[str, str] | None = None
) -> DesiredAllocation:
    return DesiredAllocation(
        id="a-1",
        task="t-1",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        devices=devices,
        gpu_milli=milli,
        gpu_memory_mib=memory_mib,
        launch=Launch(argv=("python",), env=env or {}, grace_seconds=1.0),
        gang=Gang(rank=0, size=1, master_address="10.0.0.1"),
    )


def offer(**more: object) -> Offer:
    given = {"memory_mib": H100, "mig": frozenset({"MIG-a"}), **more}
    return Offer(**given)  # pyright: ignore[reportArgumentType]


def test_a_whole_device_is_named_by_uuid_and_nothing_else_is_done() -> None:
    assert device_environment(wanted("GPU-a"), offer(allocator_fraction=True)) == {
        "CUDA_VISIBLE_DEVICES": "GPU-a",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "STOWPLAN_DEVICES": "GPU-a",
        "STOWPLAN_GPU_SHARE": "1",
        "STOWPLAN_GPU_MEMORY_MIB": "81559",
        "STOWPLAN_GPU_ENFORCED": "whole",
    }


def test_a_mig_device_is_named_as_it_is_and_kept_by_the_hardware() -> None:
    found = device_environment(wanted("MIG-a"), offer())
    assert found["CUDA_VISIBLE_DEVICES"] == "MIG-a"
    assert found["STOWPLAN_GPU_ENFORCED"] == "mig"
    assert found["STOWPLAN_GPU_MEMORY_MIB"] == "40448"
    assert strength(wanted("MIG-a", milli=500), offer()) is Strength.COOPERATIVE


def test_a_share_is_limited_by_torch_where_its_torch_can() -> None:
    share = wanted("GPU-a", milli=460)
    found = device_environment(share, offer(allocator_fraction=True))
    assert found["STOWPLAN_GPU_SHARE"] == "0.46"
    assert found["STOWPLAN_GPU_MEMORY_MIB"] == "37517"
    assert found["STOWPLAN_GPU_ENFORCED"] == "cooperative"
    # 1 GiB of it is the context's.
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == "per_process_memory_fraction:0.4474"
    assert 0.4474 * 81_559 + 1024 <= 37_517
    assert "PYTORCH_CUDA_ALLOC_CONF" not in device_environment(share, offer())


def test_a_small_share_keeps_three_quarters_for_its_tensors() -> None:
    found = device_environment(
        wanted("GPU-a", milli=20, memory_mib=2000), offer(allocator_fraction=True)
    )
    assert found["STOWPLAN_GPU_MEMORY_MIB"] == "2000"
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == "per_process_memory_fraction:0.0183"


def test_of_a_device_of_unknown_size_no_fraction_is_made_up() -> None:
    found = device_environment(
        wanted("GPU-x", milli=500, memory_mib=2000), offer(allocator_fraction=True)
    )
    assert found["STOWPLAN_GPU_MEMORY_MIB"] == "2000"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in found
    assert "STOWPLAN_GPU_MEMORY_MIB" not in device_environment(
        wanted("GPU-x", milli=500), offer(allocator_fraction=True)
    )


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
            "expandable_segments:True,per_process_memory_fraction:0.4474",
        ),
        (
            {"PYTORCH_ALLOC_CONF": "max_split_size_mb:128"},
            "max_split_size_mb:128,per_process_memory_fraction:0.4474",
        ),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "backend:native", "PYTORCH_ALLOC_CONF": "unheeded:1"},
            "backend:native,per_process_memory_fraction:0.4474",
        ),
    ],
)
def test_the_programs_own_options_stay(env: dict[str, str], expected: str) -> None:
    share = wanted("GPU-a", milli=460, env=env)
    found = device_environment(share, offer(allocator_fraction=True))
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "per_process_memory_fraction:0.5"),
        (" , ,", "per_process_memory_fraction:0.5"),
        ("per_process_memory_fraction:0.2", "per_process_memory_fraction:0.2"),
        ("per_process_memory_fraction:0.9,a:1", "a:1,per_process_memory_fraction:0.5"),
        ("per_process_memory_fraction:all", "per_process_memory_fraction:0.5"),
        ("per_process_memory_fraction:nan", "per_process_memory_fraction:0.5"),
        ("per_process_memory_fraction:-1", "per_process_memory_fraction:0.5"),
        (
            "roundup_power2_divisions:[256:1,512:2,>:4],a:1",
            "roundup_power2_divisions:[256:1,512:2,>:4],a:1,per_process_memory_fraction:0.5",
        ),
    ],
)
def test_options_are_merged_and_the_smaller_fraction_holds(options: str, expected: str) -> None:
    assert merged_options(options, 0.5) == expected


def test_where_a_daemon_runs_the_driver_limits_the_share() -> None:
    share = wanted("GPU-a", milli=125, memory_mib=9000)
    found = device_environment(share, offer(mps_pipe_directory="/run/mps", allocator_fraction=True))
    assert found["STOWPLAN_GPU_ENFORCED"] == "mps"
    assert found["CUDA_MPS_PIPE_DIRECTORY"] == "/run/mps"
    assert found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "12"
    assert found["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=9000M"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in found


def test_a_simulated_device_is_told_of_and_nothing_is_claimed_for_it() -> None:
    found = device_environment(
        wanted("SIM-n1-0", milli=500), offer(memory_mib={"SIM-n1-0": 1000}, allocator_fraction=True)
    )
    assert found == {
        "CUDA_VISIBLE_DEVICES": "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "STOWPLAN_DEVICES": "SIM-n1-0",
        "STOWPLAN_GPU_SHARE": "0.5",
        "STOWPLAN_GPU_MEMORY_MIB": "500",
    }


def test_a_task_without_devices_is_told_nothing_of_shares() -> None:
    assert not any("GPU" in name for name in device_environment(wanted(), offer()))


def test_more_memory_than_a_device_has_is_all_that_it_has() -> None:
    limits = memory_limit_mib(wanted("GPU-a", milli=900, memory_mib=90_000), H100)
    assert limits == {"GPU-a": 81_559}


def known(uuid: str, *, parent: str | None = None, simulated: bool = False) -> DeviceInventory:
    return DeviceInventory(
        uuid=uuid, index=0, model="m", memory_mib=1, parent=parent, simulated=simulated
    )


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], {}),
        ([known("SIM-n-0", simulated=True)], {}),
        ([known("MIG-a", parent="GPU-a")], {"enforce.gpu_memory": "mig"}),
        ([known("MIG-a", parent="GPU-a"), known("GPU-b")], {"enforce.gpu_memory": "mps"}),
        ([known("GPU-b"), known("GPU-c")], {"enforce.gpu_memory": "cooperative"}),
    ],
)
def test_a_nodes_label_is_the_weakest_that_a_share_on_it_may_get(
    devices: list[DeviceInventory], expected: dict[str, str]
) -> None:
    assert node_labels(devices, has_mps=lambda uuid: uuid == "GPU-b") == expected


def test_the_option_is_one_that_the_installed_torch_reads() -> None:
    """Its name and its place, in the headers of the torch that we test with."""
    torch = pytest.importorskip("torch")
    header = Path(torch.__file__).parent / "include/c10/cuda/CUDAAllocatorConfig.h"
    assert '"per_process_memory_fraction"' in header.read_text()
