"""The NVIDIA probe through the real pynvml, which loads the stand-in library of tests/nvml."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.probes import nvidia
from telemetry.probes.nvidia import REDISCOVER_SECONDS, NvmlUnavailableError, open_nvml
from telemetry.probes.nvidia_process import MISSES_UNTIL_UNHEALTHY, NvidiaProcess
from telemetry.samples import DeviceProcess
from tests.nvml.build import GPU_0, GPU_1, NVLINK_BOX, write_script


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "world"
    monkeypatch.setenv("STANDIN_NVML_SCRIPT", str(path))
    return path


@pytest.fixture
def probe(nvml_library: Path, script: Path) -> Iterator[NvidiaProcess]:
    probe = NvidiaProcess(library=nvml_library)
    yield probe
    probe.close()


def test_two_linked_gpus_are_read_in_full(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    reading = probe.read()
    assert (reading.source, reading.driver_version, reading.cuda_version, reading.message) == (
        "nvml",
        "570.86.15",
        "12.8",
        None,
    )
    first, second = reading.devices
    assert (first.uuid, first.index, first.model, first.memory_mib) == ("GPU-a", 0, "H100", 81920)
    assert (first.pci_bus_id, first.compute_capability) == ("00000000:0a:00.0", "9.0")
    assert first.links == {"GPU-b": "nvlink"}
    assert second.links == {"GPU-a": "nvlink"}
    sample = reading.samples[0]
    assert (sample.utilization_percent, sample.power_watts, sample.energy_joules) == (37, 250.5, 9)
    assert (sample.memory_used_mib, sample.memory_reserved_mib, sample.memory_free_mib) == (
        1024,
        512,
        80384,
    )
    assert (sample.clock_sm_mhz, sample.clock_memory_mhz) == (1980, 2619)
    assert (sample.temperature_celsius, sample.throttle_reasons) == (41, 4)
    assert sample.processes == (DeviceProcess(pid=4242, memory_mib=1024),)
    assert reading.samples[1].processes == ()


def test_gpus_without_nvlink_are_linked_by_their_common_ancestor(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, GPU_0, GPU_1, "ancestor 0 1 20")
    assert [d.links for d in probe.read().devices] == [{"GPU-b": "pxb"}, {"GPU-a": "pxb"}]


def test_gpus_behind_a_switch_are_linked(probe: NvidiaProcess, script: Path) -> None:
    switch = "00000000:C0:00.0"
    write_script(script, GPU_0, GPU_1, f"nvlink 0 0 {switch}", f"nvlink 1 2 {switch}")
    assert [d.links for d in probe.read().devices] == [{"GPU-b": "nvlink"}, {"GPU-a": "nvlink"}]


def test_a_lost_gpu_is_unhealthy_and_the_other_goes_on(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "fail 1 * 15")
    reading = probe.read()
    assert [(d.uuid, d.healthy) for d in reading.devices] == [("GPU-a", True), ("GPU-b", False)]
    assert "GPU is lost" in (reading.devices[1].fault or "")
    assert [s.uuid for s in reading.samples] == ["GPU-a"]


def test_a_missing_sensor_is_unknown_and_the_others_are_read(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(
        script,
        *NVLINK_BOX,
        "fail * nvmlDeviceGetPowerUsage 3",
        "fail 0 nvmlDeviceGetComputeRunningProcesses_v3 4",
    )
    first, second = probe.read().samples
    assert (first.power_watts, first.processes, first.utilization_percent) == (None, None, 37)
    assert (second.power_watts, second.processes) == (None, ())


def test_a_gpu_that_may_not_be_opened_is_named_in_the_message(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "fail 1 nvmlDeviceGetHandleByIndex_v2 4")
    reading = probe.read()
    assert [d.uuid for d in reading.devices] == ["GPU-a"]
    assert reading.message == "GPU 1 can't be used: Insufficient Permissions"


def test_no_permission_for_the_driver_is_a_cpu_node_with_a_message(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "fail * nvmlInitWithFlags 4")
    reading = probe.read()
    assert (reading.devices, reading.source) == ((), "none")
    assert "no permission" in (reading.message or "")


def test_a_driver_of_another_version_than_its_library_says_what_to_do(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "fail * nvmlInitWithFlags 18")
    assert "reload the driver or reboot" in (probe.read().message or "")


def test_an_old_driver_lacks_some_values_only(old_nvml_library: Path, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe = NvidiaProcess(library=old_nvml_library)
    try:
        sample = probe.read().samples[0]
    finally:
        probe.close()
    assert (sample.memory_used_mib, sample.memory_reserved_mib) == (1536, None)
    assert (sample.energy_joules, sample.processes) == (None, None)
    assert (sample.throttle_reasons, sample.utilization_percent) == (4, 37)


def test_pids_of_a_driver_that_scrambles_them_are_unknown(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "driver 535.54.03")
    assert [s.processes for s in probe.read().samples] == [None, None]


def test_a_hanging_driver_leaves_its_gpus_without_samples_and_then_unhealthy(
    nvml_library: Path, script: Path
) -> None:
    class Impatient(Clock):
        """Each look at it is a second later, so that a deadline passes without a wait."""

        def __call__(self) -> float:
            self.now += self.step
            return self.now

        step = 0.0

    clock = Impatient()
    probe = NvidiaProcess(library=nvml_library, deadline_seconds=30, boot_seconds=clock)
    write_script(script, *NVLINK_BOX)
    try:
        assert len(probe.read().samples) == 2
        write_script(script, *NVLINK_BOX, "hang 0 nvmlDeviceGetUtilizationRates")
        clock.step = 100.0
        readings = [probe.read() for _ in range(MISSES_UNTIL_UNHEALTHY)]
        assert [r.samples for r in readings] == [()] * MISSES_UNTIL_UNHEALTHY
        assert [d.healthy for d in readings[0].devices] == [True, True]
        assert [d.healthy for d in readings[-1].devices] == [False, False]
        assert "doesn't answer" in (readings[-1].devices[0].fault or "")
        write_script(script, *NVLINK_BOX)
        clock.step = 0.0
        clock.now += 1000
        recovered = probe.read()
        assert [d.healthy for d in recovered.devices] == [True, True]
        assert len(recovered.samples) == 2
    finally:
        probe.close()


def test_a_library_that_ends_its_process_does_not_end_ours(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "exit * nvmlDeviceGetCount_v2")
    reading = probe.read()
    assert (reading.devices, reading.message) == ((), "the NVML process ended")


def test_a_machine_without_driver_is_a_cpu_node() -> None:
    reading = nvidia.NvidiaProbe().read()
    assert reading.devices == ()
    assert reading.message


def test_a_missing_driver_is_looked_for_again_only_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts: list[float] = []
    clock = Clock()

    def absent() -> None:
        attempts.append(clock.now)
        raise NvmlUnavailableError("no driver")

    monkeypatch.setattr(nvidia, "open_nvml", absent)
    probe = nvidia.NvidiaProbe(boot_seconds=clock)
    for clock.now in (0.0, 1.0, REDISCOVER_SECONDS, REDISCOVER_SECONDS + 1):
        probe.read()
    assert attempts == [0.0, REDISCOVER_SECONDS]


def test_a_foreign_pynvml_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", type(sys)("pynvml"))
    with pytest.raises(NvmlUnavailableError, match="isn't NVIDIA's"):
        open_nvml()


def test_the_numa_node_near_a_gpu_comes_from_sysfs(tmp_path: Path) -> None:
    device = tmp_path / "bus/pci/devices/0000:0a:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    probe = nvidia.NvidiaProbe(sysfs=tmp_path)
    assert probe.numa_node("00000000:0a:00.0") == 1
    (device / "numa_node").write_text("-1\n")
    assert probe.numa_node("00000000:0a:00.0") is None
    assert probe.numa_node("00000000:0b:00.0") is None
