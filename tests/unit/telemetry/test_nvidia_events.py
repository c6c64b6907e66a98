"""What the driver tells by itself is told on, once, whatever else happens."""

from collections.abc import Callable
from pathlib import Path

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia_process import NvidiaProcess
from telemetry.samples import DeviceEvent, DeviceEventKind
from tests.nvml.build import CONSUMER_CARD, EIGHT_GPUS, MIG_BOX, write_script
from tests.unit.telemetry.conftest import Clock, read_until

XID, UNRESPONSIVE, RECOVERED = (
    DeviceEventKind.XID,
    DeviceEventKind.UNRESPONSIVE,
    DeviceEventKind.RECOVERED,
)


def last_code(code: int) -> Callable[[DeviceReading, list[DeviceEvent]], bool]:
    return lambda _, events: bool(events) and events[-1].code == code


def told(events: list[DeviceEvent]) -> list[tuple[str | None, int | None]]:
    return [(event.uuid, event.code) for event in events]


def test_xids_are_told_once_with_their_class_in_words(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *EIGHT_GPUS)
    before_ms = probe.read().samples[0].taken_at_ms
    write_script(script, *EIGHT_GPUS, "xid 3 79", "xid 4 31", "xid 4 43")
    _, events = read_until(probe, last_code(43))
    assert told(events) == [("GPU-3", 79), ("GPU-4", 31), ("GPU-4", 43)]
    assert {event.kind for event in events} == {XID}
    assert events[0].message == "Xid 79: GPU has fallen off the bus (hardware)"
    assert events[1].message == "Xid 31: memory page fault (application)"
    assert events[0].at_ms >= before_ms
    write_script(script, *EIGHT_GPUS, "xid 0 13")
    assert told(read_until(probe, last_code(13))[1]) == [("GPU-0", 13)]


def test_an_xid_of_a_divided_gpu_is_about_the_instance_that_it_names_or_all(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *MIG_BOX)
    probe.read()
    write_script(script, *MIG_BOX, "xid 0 94 9 0", "xid 0 79", "xid 1 13")
    _, events = read_until(probe, last_code(13))
    assert told(events) == [("MIG-b", 94), ("MIG-a", 79), ("MIG-b", 79), ("GPU-1", 13)]


def test_a_new_mig_setting_is_heeded_at_once(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *MIG_BOX)
    probe.read()
    without = [line for line in MIG_BOX if "MIG-b" not in line]
    write_script(script, *without, "event 0 256")
    reading, _ = read_until(probe, lambda reading, _: len(reading.devices) == 2)
    assert [d.uuid for d in reading.devices] == ["MIG-a", "GPU-1"]


def test_an_event_is_told_although_the_reading_hangs(
    nvml_library: Path, script: Path, clock: Clock
) -> None:
    # The clock stands still, so that a late reading is never too late.
    probe = NvidiaProcess(library=nvml_library, wait_seconds=0.05, boot_seconds=clock)
    try:
        write_script(script, *EIGHT_GPUS)
        read_until(probe, lambda reading, _: bool(reading.samples))
        write_script(script, *EIGHT_GPUS, "hang 0 nvmlDeviceGetUtilizationRates", "xid 0 79")
        reading, events = read_until(probe, last_code(79))
        assert told(events) == [("GPU-0", 79)]
        assert reading.samples == ()
    finally:
        probe.close()


def test_an_error_while_waiting_is_an_event_and_no_end(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *EIGHT_GPUS)
    probe.read()
    write_script(script, *EIGHT_GPUS, "fail * nvmlEventSetWait_v2 999")
    reading, events = read_until(probe, lambda _, events: bool(events))
    assert [(e.kind, e.uuid) for e in events] == [(UNRESPONSIVE, None)]
    assert "waiting for the driver's events failed" in events[0].message
    assert len(reading.samples) == 8
    write_script(script, *EIGHT_GPUS, "xid 0 13")
    clock.now += 60
    _, events = read_until(probe, lambda _, events: len(events) == 2)
    assert {(e.kind, e.uuid) for e in events} == {(RECOVERED, None), (XID, "GPU-0")}


def test_a_lost_gpu_ends_no_wait_for_the_others(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *EIGHT_GPUS)
    probe.read()
    write_script(script, *EIGHT_GPUS, "fail 1 * 15")
    _, events = read_until(probe, lambda _, events: bool(events))
    assert [(e.kind, e.uuid) for e in events] == [(DeviceEventKind.LOST, "GPU-1")]
    write_script(script, *EIGHT_GPUS, "fail 1 * 15", "xid 2 48")
    _, events = read_until(probe, last_code(48))
    assert told(events) == [("GPU-2", 48)]


def test_a_card_without_events_is_read_all_the_same(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *CONSUMER_CARD, "xid 0 79")
    assert len(probe.read().samples) == 1
    assert probe.read().events == ()
