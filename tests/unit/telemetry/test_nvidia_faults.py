"""A GPU, a driver or the NVML process that fails: the others go on, and nothing is forgotten."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.probes.base import DeviceReading
from telemetry.probes.nvidia_child import NvidiaChild, StuckChildren
from telemetry.probes.nvidia_process import (
    MISSES_UNTIL_UNHEALTHY,
    RECYCLE_SECONDS,
    NvidiaProcess,
)
from telemetry.samples import DeviceEvent, DeviceEventKind
from tests.nvml.build import MIG_BOX, NVLINK_BOX, write_script
from tests.unit.telemetry.conftest import Clock, read_until
from tests.waiting import wait_for

LOST, RECOVERED, UNRESPONSIVE = (
    DeviceEventKind.LOST,
    DeviceEventKind.RECOVERED,
    DeviceEventKind.UNRESPONSIVE,
)
MISMATCH = "fail * nvmlInitWithFlags 18"


def health(reading: DeviceReading) -> dict[str, bool]:
    return {device.uuid: device.healthy for device in reading.devices}


def kinds(events: tuple[DeviceEvent, ...] | list[DeviceEvent]) -> list[tuple[object, str | None]]:
    return [(event.kind, event.uuid) for event in events]


def test_a_lost_gpu_is_unhealthy_and_the_other_goes_on(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "fail 1 * 15")
    reading = probe.read()
    assert health(reading) == {"GPU-a": True, "GPU-b": False}
    assert "GPU is lost" in (reading.devices[1].fault or "")
    assert [s.uuid for s in reading.samples] == ["GPU-a"]
    assert kinds(reading.events) == [(LOST, "GPU-b")]
    assert probe.read().events == ()


def test_a_lost_gpu_is_found_again_by_its_uuid(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "fail 1 * 15")
    probe.read()
    # It comes back as the first, and keeps its number all the same.
    swapped = [
        line.replace("gpu 0", "gpu 9").replace("gpu 1", "gpu 0").replace("gpu 9", "gpu 1")
        for line in NVLINK_BOX
    ]
    write_script(script, *swapped)
    clock.now += 60
    reading = probe.read()
    assert health(reading) == {"GPU-a": True, "GPU-b": True}
    assert {d.uuid: d.index for d in reading.devices} == {"GPU-a": 0, "GPU-b": 1}
    assert kinds(reading.events) == [(RECOVERED, "GPU-b")]
    assert len(reading.samples) == 2


def test_a_gpu_that_is_listed_and_still_lost_is_not_called_recovered(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX, "fail 1 nvmlDeviceGetUtilizationRates 15")
    assert kinds(probe.read().events) == [(LOST, "GPU-b")]
    clock.now += 60
    reading = probe.read()
    assert (health(reading)["GPU-b"], reading.events) == (False, ())


def test_a_gpu_that_is_lost_from_the_start_is_named_and_looked_for_again(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX, "fail 1 * 15")
    reading = probe.read()
    assert health(reading) == {"GPU-a": True}
    assert reading.message == "GPU 1 can't be used: GPU is lost"
    write_script(script, *NVLINK_BOX)
    clock.now += 120
    reading = probe.read()
    assert health(reading) == {"GPU-a": True, "GPU-b": True}
    assert reading.message is None


def test_a_lost_divided_gpu_takes_all_its_mig_devices_along(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *MIG_BOX)
    probe.read()
    write_script(script, *MIG_BOX, "fail 0 * 15")
    reading = probe.read()
    assert health(reading) == {"MIG-a": False, "MIG-b": False, "GPU-1": True}
    assert kinds(reading.events) == [(LOST, "MIG-a"), (LOST, "MIG-b")]


def test_an_unknown_error_is_cured_by_reopening_nvml(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "fail 0 nvmlDeviceGetPowerUsage 999")
    reading = probe.read()
    assert health(reading) == {"GPU-a": True, "GPU-b": True}
    assert [s.uuid for s in reading.samples] == ["GPU-b"]
    write_script(script, *NVLINK_BOX)
    reading = probe.read()
    assert (len(reading.samples), reading.events) == (2, ())


def test_an_unknown_error_that_stays_is_a_fault(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX, "fail 0 nvmlDeviceGetPowerUsage 999")
    probe.read()
    reading = probe.read()
    assert health(reading) == {"GPU-a": False, "GPU-b": True}
    assert reading.devices[0].fault == "NVML: Unknown Error, also after reopening NVML"
    assert kinds(reading.events) == [(LOST, "GPU-a")]


def test_a_driver_of_another_version_than_its_library_says_what_to_do(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, MISMATCH)
    assert "reload the driver or reboot" in (probe.read().message or "")


def test_devices_stay_when_driver_and_library_come_to_differ(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "fail 1 * 15", MISMATCH)
    probe.read()
    clock.now += 60
    reading = probe.read()
    assert health(reading) == {"GPU-a": False, "GPU-b": False}
    assert "differ in version" in (reading.devices[0].fault or "")
    assert kinds(reading.events) == [(UNRESPONSIVE, None)]
    write_script(script, *NVLINK_BOX)
    clock.now += 600
    reading = probe.read()
    assert health(reading) == {"GPU-a": True, "GPU-b": True}
    assert kinds(reading.events) == [(RECOVERED, None), (RECOVERED, "GPU-b")]


def test_a_new_nvml_process_knows_the_devices_of_the_one_before(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "exit 0 nvmlDeviceGetPowerUsage")
    assert probe.read().message == "the NVML process ended"
    write_script(script, *NVLINK_BOX, MISMATCH)
    clock.now += 60
    reading = probe.read()
    assert health(reading) == {"GPU-a": False, "GPU-b": False}
    assert "differ in version" in (reading.message or "")


def test_a_library_that_ends_its_process_does_not_end_ours(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "exit * nvmlDeviceGetCount_v2")
    reading = probe.read()
    assert (reading.devices, reading.message) == ((), "the NVML process ended")


def test_a_hanging_driver_leaves_its_gpus_without_samples_and_then_unhealthy(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    assert len(probe.read().samples) == 2
    write_script(script, *NVLINK_BOX, "hang 0 nvmlDeviceGetUtilizationRates")
    clock.step = 150.0
    readings = [probe.read() for _ in range(MISSES_UNTIL_UNHEALTHY)]
    assert [r.samples for r in readings] == [()] * MISSES_UNTIL_UNHEALTHY
    assert [d.healthy for d in readings[0].devices] == [True, True]
    assert [d.healthy for d in readings[-1].devices] == [False, False]
    assert readings[0].message == "NVML doesn't answer: its reading missed the deadline"
    assert [d.fault for d in readings[-1].devices] == [readings[-1].message] * 2
    write_script(script, *NVLINK_BOX)
    clock.step = 0.0
    clock.now += 1000
    recovered = probe.read()
    assert health(recovered) == {"GPU-a": True, "GPU-b": True}
    assert len(recovered.samples) == 2


def test_a_pause_between_two_tries_is_no_missed_deadline(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    write_script(script, *NVLINK_BOX, "exit 0 nvmlDeviceGetPowerUsage")
    for _ in range(MISSES_UNTIL_UNHEALTHY + 1):
        reading = probe.read()
    assert reading.message == "NVML didn't answer; it's tried again later"
    assert health(reading) == {"GPU-a": True, "GPU-b": True}
    assert reading.samples == ()


def test_a_long_silence_is_one_event_and_its_end_another(
    nvml_library: Path, script: Path, clock: Clock
) -> None:
    probe = NvidiaProcess(library=nvml_library, wait_seconds=0.01, boot_seconds=clock)
    try:
        write_script(script, *NVLINK_BOX)
        read_until(probe, lambda reading, _: bool(reading.samples))
        write_script(script, *NVLINK_BOX, "hang 0 nvmlDeviceGetUtilizationRates")
        events: list[DeviceEvent] = []
        for clock.now in (1001.0, 1060.0, 1061.0, 1062.0, 1200.0):
            events += probe.read().events
        assert kinds(events) == [(UNRESPONSIVE, None)]
        write_script(script, *NVLINK_BOX)
        clock.now += 1000
        _, events = read_until(probe, lambda reading, _: bool(reading.samples))
        assert kinds(events) == [(RECOVERED, None)]
    finally:
        probe.close()


def test_a_driver_that_takes_long_to_open_is_given_its_time(
    nvml_library: Path, script: Path, clock: Clock
) -> None:
    probe = NvidiaProcess(
        library=nvml_library, deadline_seconds=0.01, wait_seconds=0.01, boot_seconds=clock
    )
    try:
        write_script(script, *NVLINK_BOX, "delay * nvmlInitWithFlags 200")
        first = probe.read()
        assert (first.devices, first.samples, first.message) == ((), (), "no reading yet")
        pid = probe.pid
        clock.now += 50
        reading, _ = read_until(probe, lambda reading, _: bool(reading.samples))
        assert (len(reading.devices), probe.pid) == (2, pid)
    finally:
        probe.close()


def test_the_nvml_process_is_replaced_once_a_day(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    first = probe.pid
    clock.now += RECYCLE_SECONDS - 1
    probe.read()
    assert probe.pid == first
    clock.now += 1
    reading = probe.read()
    assert probe.pid not in (None, first)
    assert (len(reading.samples), reading.events) == (2, ())


def test_the_nvml_process_is_replaced_when_it_has_grown(
    nvml_library: Path, script: Path, clock: Clock
) -> None:
    probe = NvidiaProcess(
        library=nvml_library, wait_seconds=60, recycle_bytes=1, boot_seconds=clock
    )
    try:
        write_script(script, *NVLINK_BOX)
        probe.read()
        first = probe.pid
        clock.now += 60
        assert len(probe.read().samples) == 2
        assert probe.pid not in (None, first)
    finally:
        probe.close()


def test_closing_lets_go_of_the_driver(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, *NVLINK_BOX)
    probe.read()
    pid = probe.pid
    assert pid is not None
    probe.close()
    assert probe.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_ignores_its_end_is_killed_and_has_one_replacement_meanwhile(
    nvml_library: Path, script: Path
) -> None:
    write_script(script, *NVLINK_BOX)
    stuck, children = StuckChildren(), []
    try:
        for _ in range(2):
            assert not stuck.is_full
            child = NvidiaChild(library=nvml_library, known=())
            children.append(child)
            os.kill(child.pid, signal.SIGSTOP)  # as deaf to SIGTERM as one stuck in the driver
            os.waitpid(child.pid, os.WUNTRACED)
            child.leave()
            stuck.add(child, now=0.0)
        stuck.reap(1.9)
        assert stuck.is_full
        stuck.reap(2.0)
        assert [child.process.wait() for child in children] == [-signal.SIGKILL] * 2
        stuck.reap(2.0)
        assert not stuck.is_full
    finally:
        stuck.close()


AGENT = """
import sys
from pathlib import Path
from telemetry.probes.nvidia_process import NvidiaProcess

probe = NvidiaProcess(library=Path(sys.argv[1]), wait_seconds=0)
probe.read()
print(probe.pid, flush=True)
sys.stdin.read()
"""


def test_a_hanging_process_ends_with_an_agent_that_was_killed(
    nvml_library: Path, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "hang * *")
    command = [sys.executable, "-c", AGENT, str(nvml_library)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        agent.kill()
    wait_for(lambda: not _lives(child), "the NVML process ends")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
