"""Who holds a GPU: what the driver says of processes is often wrong, and then it's unknown."""

from pathlib import Path

from telemetry.probes.nvidia_process import NvidiaProcess
from telemetry.samples import DeviceProcess
from tests.nvml.build import GPU_0, NVLINK_BOX, SCRAMBLED_LIST, WRONG_PIDS, write_script


def test_stale_and_impossible_uses_are_left_out_and_the_newest_counts(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *WRONG_PIDS)
    assert probe.read().samples[0].processes == (
        DeviceProcess(pid=4242, memory_mib=1024, utilization_percent=60),
        DeviceProcess(pid=4243, memory_mib=512, utilization_percent=0),
    )


def test_a_list_with_a_pid_that_cannot_be_is_unknown_and_not_empty(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *SCRAMBLED_LIST)
    sample = probe.read().samples[0]
    assert (sample.processes, sample.process_count) == (None, None)


def test_pids_of_a_driver_that_scrambles_them_are_unknown(
    probe: NvidiaProcess, script: Path
) -> None:
    write_script(script, *NVLINK_BOX, "driver 535.54.03")
    assert [s.processes for s in probe.read().samples] == [None, None]


def test_no_use_within_the_last_seconds_is_idle_and_no_error(
    probe: NvidiaProcess, script: Path
) -> None:
    # The driver answers "not found" without any use, and the binding raises success without a
    # fresh one.
    write_script(script, GPU_0, "process 0 7 1")
    (process,) = probe.read().samples[0].processes or ()
    assert process.utilization_percent == 0


def test_only_old_uses_are_idle_and_no_error(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, GPU_0, "process 0 7 1", "used 0 7 50 60000")
    (process,) = probe.read().samples[0].processes or ()
    assert process.utilization_percent == 0


def test_a_use_that_the_driver_cannot_tell_is_unknown(probe: NvidiaProcess, script: Path) -> None:
    write_script(script, GPU_0, "process 0 7 1", "fail 0 nvmlDeviceGetProcessUtilization 3")
    assert probe.read().samples[0].processes == (DeviceProcess(pid=7, memory_mib=1),)
