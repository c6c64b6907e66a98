"""A probe that fails or hangs costs its own data and nothing else."""

import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from telemetry.collect import Collector, Patient, make_collector
from telemetry.probes.base import DeviceReading
from telemetry.probes.host import HostReader
from telemetry.probes.simulated import SimulatedGroup, SimulatedProbe, parse_groups
from telemetry.samples import DeviceEventKind, HostInventory, HostSample
from tests.nvml.build import NVLINK_BOX, write_script


class HangingHost:
    """A host whose disk is a dead network file system from the second sample on."""

    def __init__(self, disk: Path) -> None:
        self._reader = HostReader(disk=disk)
        self.release = threading.Event()
        self.hangs = False

    def inventory(self) -> HostInventory:
        return self._reader.inventory()

    def sample(self) -> HostSample:
        if self.hangs:
            self.release.wait()
        return self._reader.sample()


class BrokenDevices:
    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        raise RuntimeError("driver on fire")

    def close(self) -> None:
        return


class BreakingDevices(BrokenDevices):
    """Well at first."""

    breaks = False

    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        return super().read() if self.breaks else simulated().read()


def simulated() -> SimulatedProbe:
    return SimulatedProbe(node="n1", groups=parse_groups("2xA100:40960"))


def test_simulated_devices_are_labelled_and_claim_nothing(tmp_path: Path) -> None:
    collection = make_collector(
        node="n1", disk=tmp_path, simulated_devices="2xA100:40960"
    ).collect()
    assert [(d.uuid, d.model, d.memory_mib, d.simulated) for d in collection.inventory.devices] == [
        ("SIM-n1-0", "A100", 40960, True),
        ("SIM-n1-1", "A100", 40960, True),
    ]
    assert collection.inventory.device_source == "simulated"
    for sample in collection.devices:
        assert sample.simulated
        assert (sample.utilization_percent, sample.memory_used_mib, sample.power_watts) == (
            None,
            None,
            None,
        )


def test_simulated_groups_are_read_from_text() -> None:
    assert parse_groups("2") == (SimulatedGroup(count=2),)
    assert parse_groups("1xA100:40960, 2xV100") == (
        SimulatedGroup(count=1, model="A100", memory_mib=40960),
        SimulatedGroup(count=2, model="V100"),
    )


@pytest.mark.parametrize("text", ["", "x", "2x", "-1", "2xA:", "2xA:4:4", "two"])
def test_a_wrong_text_for_simulated_devices_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write COUNT"):
        parse_groups(text)


def test_a_hanging_host_probe_leaves_the_devices_readable(tmp_path: Path) -> None:
    host = HangingHost(tmp_path)
    collector = Collector(host=host, devices=simulated(), deadline_seconds=5)
    assert collector.collect().host is not None
    host.hangs = True
    patient = Collector(host=host, devices=simulated(), deadline_seconds=0.01)
    collection = patient.collect()
    assert collection.host is None
    assert len(collection.devices) == 2
    assert collection.faults == ("host: no answer within 0.01 s",)
    host.release.set()


def test_a_hanging_call_is_not_started_twice() -> None:
    release, calls = threading.Event(), []

    def work() -> int:
        calls.append(1)
        release.wait()
        return len(calls)

    patient = Patient(work, deadline_seconds=0.01)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            patient.take()
    assert len(calls) == 1
    release.set()
    assert Patient(work, deadline_seconds=5).take() == 2


def test_failing_devices_are_unknown_and_the_host_goes_on(tmp_path: Path) -> None:
    collector = Collector(host=HostReader(disk=tmp_path), devices=BrokenDevices())
    collection = collector.collect()
    assert collection.host is not None
    assert collection.devices == ()
    assert collection.faults == ("devices: driver on fire",)


def test_devices_stay_in_the_inventory_when_their_probe_fails(tmp_path: Path) -> None:
    devices = BreakingDevices()
    collector = Collector(host=HostReader(disk=tmp_path), devices=devices)
    known = collector.collect().inventory.devices
    devices.breaks = True
    collection = collector.collect()
    assert collection.inventory.devices == known != ()
    assert (collection.devices, collection.faults) == ((), ("devices: driver on fire",))


def test_events_of_devices_come_with_the_round(
    nvml_library: Path, script: Path, tmp_path: Path
) -> None:
    write_script(script, *NVLINK_BOX)
    collector = make_collector(node="n1", disk=tmp_path, nvml_library=nvml_library)
    try:
        assert collector.collect().events == ()
        write_script(script, *NVLINK_BOX, "fail 1 * 15")
        collection = collector.collect()
    finally:
        collector.close()
    assert [(e.kind, e.uuid) for e in collection.events] == [(DeviceEventKind.LOST, "GPU-b")]
    assert [d.healthy for d in collection.inventory.devices] == [True, False]


def test_nvml_can_be_switched_off(tmp_path: Path) -> None:
    collection = make_collector(node="n1", disk=tmp_path, nvml=False).collect()
    assert collection.inventory.device_source == "none"
    assert "switched off" in (collection.inventory.device_message or "")
