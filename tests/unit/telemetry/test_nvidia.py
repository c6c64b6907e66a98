"""What the NVIDIA probe finds, through the real pynvml, which loads the stand-in of tests/nvml."""

import sys
from pathlib import Path

import pytest

from telemetry.probes.nvidia.binding import NvmlUnavailableError, open_nvml
from telemetry.probes.nvidia.discovery import numa_node
from telemetry.probes.nvidia.probe import NvidiaProbe
from telemetry.probes.nvidia_process import NvidiaProcess
from telemetry.samples import DeviceEvent, DeviceProcess
from tests.nvml.build import (
    CONSUMER_CARD,
    EIGHT_GPUS,
    GPU_0,
    GPU_1,
    MIG_BOX,
    NVLINK_BOX,
    PCIE_BOX,
    h100,
    write_script,
)
from tests.unit.telemetry.conftest import Clock


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
    assert sample.processes == (DeviceProcess(pid=4242, memory_mib=1024, utilization_percent=0),)
    assert (reading.samples[1].processes, reading.samples[1].process_count) == ((), 0)


def test_what_a_gpu_is_is_told_once(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *EIGHT_GPUS)
    devices = probe.read().devices
    assert [device.index for device in devices] == list(range(8))
    fourth = devices[3]
    assert (fourth.serial, fourth.power_limit_watts, fourth.clock_sm_max_mhz) == (
        "165343",
        700.0,
        1980,
    )
    assert (fourth.pcie_generation_max, fourth.pcie_width_max, fourth.parent) == (5, 16, None)
    assert fourth.unsupported == ("fan_percent",)


def test_every_sensor_of_a_large_box_is_read(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *EIGHT_GPUS)
    sample = probe.read().samples[3]
    assert (sample.memory_bus_percent, sample.performance_state, sample.fan_percent) == (
        12,
        0,
        None,
    )
    assert (sample.memory_temperature_celsius, sample.pcie_replays) == (48, 2)
    assert (sample.pcie_sent_bytes, sample.pcie_received_bytes) == (5 * 10**9, 7 * 10**9)
    assert (sample.nvlink_sent_bytes, sample.nvlink_received_bytes) == (1 << 20, 2 << 20)
    assert (sample.power_violation_seconds, sample.thermal_violation_seconds) == (2.5, 0)
    assert (sample.ecc_corrected, sample.ecc_uncorrected, sample.remapped_rows) == (3, 0, 1)
    assert (sample.memory_repair_pending, sample.memory_repair_failed) == (0, 0)
    assert (sample.pcie_generation, sample.pcie_width, sample.energy_joules) == (5, 16, 20)


def test_gpm_needs_two_looks_and_is_not_unsupported_before(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *EIGHT_GPUS)
    first = probe.read()
    assert first.samples[0].sm_active_percent is None
    assert "sm_active_percent" not in first.devices[0].unsupported
    clock.now += 5
    sample = probe.read().samples[0]
    assert (
        sample.sm_active_percent,
        sample.sm_occupancy_percent,
        sample.tensor_active_percent,
        sample.memory_bandwidth_percent,
    ) == (61, 40, 33, 52)


def test_gpus_on_nvswitches_reach_each_other_at_full_width(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *EIGHT_GPUS)
    for device in probe.read().devices:
        assert set(device.links.values()) == {"nvlink"}
        assert len(device.links) == 7


def test_gpus_without_nvlink_are_linked_by_their_common_ancestor(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *PCIE_BOX)
    first, _, third, _ = probe.read().devices
    assert first.links == {"GPU-1": "pix", "GPU-2": "node", "GPU-3": "sys"}
    assert third.links == {"GPU-3": "pxb", "GPU-0": "node", "GPU-1": "sys"}


def test_links_of_an_old_driver_to_no_gpu_go_to_a_switch(
    old_nvml_library: Path, script: Path
) -> None:
    write_script(script, GPU_0, GPU_1, "nvlink 0 0 switch", "nvlink 1 2 switch")
    probe = NvidiaProcess(library=old_nvml_library)
    try:
        assert [d.links for d in probe.read().devices] == [{"GPU-b": "nvlink"}, {"GPU-a": "nvlink"}]
    finally:
        probe.close()


def test_a_divided_gpu_is_replaced_by_its_mig_devices(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *MIG_BOX)
    first, second, whole = probe.read().devices
    assert (first.uuid, first.parent, first.memory_mib) == ("MIG-a", "GPU-0", 40448)
    assert first.model == "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    assert (second.uuid, second.parent, second.memory_mib) == ("MIG-b", "GPU-0", 9984)
    assert second.model == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert (whole.uuid, whole.parent) == ("GPU-1", None)
    assert len({first.index, second.index, whole.index}) == 3
    assert (first.power_limit_watts, first.links) == (None, {})


def test_a_mig_device_has_its_own_use_and_its_gpus_temperature_but_no_copy_of_its_power(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *MIG_BOX)
    reading = probe.read()
    first, second, whole = reading.samples
    assert (first.memory_used_mib, second.memory_used_mib) == (2000, 10)
    assert first.processes == (DeviceProcess(pid=4242, memory_mib=1900),)
    assert second.processes == ()
    assert (first.temperature_celsius, second.temperature_celsius) == (40, 40)
    assert (first.power_watts, first.energy_joules, whole.power_watts) == (None, None, 300.001)
    assert {"power_watts", "utilization_percent"} <= set(reading.devices[0].unsupported)
    clock.now += 5
    first, second, _ = probe.read().samples
    assert (first.sm_active_percent, second.sm_active_percent) == (61, None)


def test_mig_devices_that_are_made_anew_take_the_place_of_the_old_ones(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *MIG_BOX)
    probe.read()
    write_script(
        script,
        *(line for line in MIG_BOX if "MIG-b" not in line),
        "mig 0 3 uuid=MIG-c gi=9 ci=0 gi_slices=1 ci_slices=1 total=9984 used=10 reserved=0",
    )
    clock.now += 60
    probe.read()
    reading = probe.read()
    assert {d.uuid: d.healthy for d in reading.devices} == {
        "MIG-a": True,
        "MIG-c": True,
        "GPU-1": True,
    }
    assert len({d.index for d in reading.devices}) == 3


def test_a_gpu_that_is_divided_while_it_is_watched_is_replaced(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *MIG_BOX[:2], h100(0))
    assert [d.uuid for d in probe.read().devices] == ["GPU-0"]
    write_script(script, *MIG_BOX)
    clock.now += 60
    probe.read()
    assert [d.uuid for d in probe.read().devices] == ["MIG-a", "MIG-b", "GPU-1"]


def test_a_divided_gpu_without_mig_devices_is_named_in_the_message(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, GPU_0 + " mig=1", GPU_1)
    reading = probe.read()
    assert [d.uuid for d in reading.devices] == ["GPU-b"]
    assert reading.message == "GPU 0 has MIG on, and no MIG device"


def test_a_consumer_card_has_what_it_has(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *CONSUMER_CARD)
    reading = probe.read()
    (device,), (sample,) = reading.devices, reading.samples
    assert (device.compute_capability, device.serial, device.links) == ("8.9", None, {})
    assert (sample.fan_percent, sample.performance_state, sample.power_watts) == (30, 8, 22)
    assert (sample.ecc_corrected, sample.nvlink_sent_bytes, sample.sm_active_percent) == (
        None,
        None,
        None,
    )
    assert {"ecc_corrected", "nvlink_sent_bytes", "sm_active_percent"} <= set(device.unsupported)
    assert not {"fan_percent", "power_watts", "processes"} & set(device.unsupported)
    assert (reading.message, reading.events) == (None, ())


def test_an_old_driver_lacks_some_values_only(old_nvml_library: Path, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe = NvidiaProcess(library=old_nvml_library)
    try:
        reading = probe.read()
    finally:
        probe.close()
    sample = reading.samples[0]
    assert (sample.memory_used_mib, sample.memory_reserved_mib) == (1536, None)
    assert (sample.energy_joules, sample.processes, sample.process_count) == (None, None, None)
    assert (sample.throttle_reasons, sample.utilization_percent) == (4, 37)
    assert reading.message is None


def test_a_missing_sensor_is_unknown_and_the_others_are_read(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(
        script,
        *NVLINK_BOX,
        "fail * nvmlDeviceGetPowerUsage 3",
        "fail 0 nvmlDeviceGetComputeRunningProcesses_v3 4",
    )
    reading = probe.read()
    first, second = reading.samples
    assert (first.power_watts, first.processes, first.utilization_percent) == (None, None, 37)
    assert (second.power_watts, second.processes) == (None, ())
    assert "processes" in reading.devices[0].unsupported
    assert "processes" not in reading.devices[1].unsupported


def test_a_missing_sensor_is_not_asked_for_again_and_an_error_is(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(
        script, *NVLINK_BOX, "fail 0 nvmlDeviceGetPowerUsage 3", "fail 1 nvmlDeviceGetPowerUsage 17"
    )
    reading = probe.read()
    assert [s.power_watts for s in reading.samples] == [None, None]
    assert ["power_watts" in d.unsupported for d in reading.devices] == [True, False]
    write_script(script, *NVLINK_BOX)
    assert [s.power_watts for s in probe.read().samples] == [None, 70]


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


def test_a_machine_without_driver_is_a_cpu_node() -> None:
    events: list[DeviceEvent] = []
    reading = NvidiaProbe(emit=events.append).read(0.0)
    assert (reading.devices, events) == ((), [])
    assert reading.message


def test_a_missing_driver_is_looked_for_again_ever_more_rarely(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX, "fail * nvmlInitWithFlags 9")
    assert probe.read().message == "the NVIDIA kernel driver isn't loaded"
    clock.now += 60
    probe.read()
    write_script(script, *NVLINK_BOX)
    clock.now += 119
    assert probe.read().devices == ()
    clock.now += 1
    reading = probe.read()
    assert (len(reading.devices), len(reading.samples), reading.message) == (2, 2, None)


def test_a_foreign_pynvml_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", type(sys)("pynvml"))
    with pytest.raises(NvmlUnavailableError, match="isn't NVIDIA's"):
        open_nvml()


def test_the_numa_node_near_a_gpu_comes_from_sysfs(tmp_path: Path) -> None:
    device = tmp_path / "bus/pci/devices/0000:0a:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    assert numa_node(tmp_path, "00000000:0a:00.0") == 1
    (device / "numa_node").write_text("-1\n")
    assert numa_node(tmp_path, "00000000:0a:00.0") is None
    assert numa_node(tmp_path, "00000000:0b:00.0") is None
