import math

import pytest

from agent.samples.windows import Look, Window, newest_ms, row_count
from protocol.samples import SampleBatch
from tests.unit.agent.looks import device, host, look, task


def batch_of(window: Window, *looks: Look) -> SampleBatch:
    """The one batch that these looks make, at the last of them."""
    *before, last = [window.add(one) for one in looks]
    assert before == [None] * len(before)
    assert last is not None
    return last


def host_values(batch: SampleBatch) -> dict[str, list[float | None]]:
    assert batch.host is not None
    return batch.host.values.model_dump(exclude_none=True)


def device_values(batch: SampleBatch) -> dict[str, list[float | None]]:
    assert batch.devices is not None
    return batch.devices.values.model_dump(exclude_none=True)


def test_a_window_becomes_one_row_for_the_host_each_device_and_each_task() -> None:
    seen = {
        "devices": (device("GPU-a", power_watts=1.0), device("GPU-b", power_watts=2.0)),
        "tasks": (task("t1:0", cpu_seconds=1.0),),
    }
    window = Window(epoch="e", seconds=5)
    batch = batch_of(window, *(look(second, host=host(), **seen) for second in range(6)))
    assert (batch.epoch, batch.seq, row_count(batch)) == ("e", 1, 4)
    assert batch.devices is not None
    assert (batch.devices.keys, batch.devices.key) == (("GPU-a", "GPU-b"), [0, 1])
    assert device_values(batch) == {"power_watts": [1.0, 2.0], "power_peak_watts": [1.0, 2.0]}
    assert batch.tasks is not None
    assert batch.tasks.keys == ("t1:0",)


def test_gauges_are_averaged_with_their_peak_and_counters_are_the_last() -> None:
    window = Window(epoch="e", seconds=2)
    batch = batch_of(
        window,
        *(
            look(
                second,
                host=host(cpu_user_seconds=second * 10.0, memory_available_mib=50 - second),
                devices=(device("GPU-a", utilization_percent=used, throttle_reasons=mask),),
            )
            for second, used, mask in ((0, 0, 1), (1, 100, 4), (2, 50, 4))
        ),
    )
    assert host_values(batch)["cpu_user_seconds"] == [20.0]
    assert host_values(batch)["memory_available_mib"] == [48]
    assert device_values(batch) == {
        "utilization_percent": [50.0],
        "utilization_peak_percent": [100.0],
        "throttle_reasons": [5],
    }


def test_a_batch_is_stamped_with_the_moment_of_its_last_look() -> None:
    window = Window(epoch="e", seconds=5)
    batch = batch_of(window, look(100, host=host()), look(105.125, host=host()))
    assert batch.host is not None
    assert batch.host.taken_at_ms == [105_125]
    assert newest_ms(batch) == 105_125


def test_windows_follow_one_another_without_drift_though_looks_come_early_and_late() -> None:
    window = Window(epoch="e", seconds=5)
    jitter = (0.0, 0.02, -0.03, 0.01, -0.01)
    looks = [look(second + jitter[second % 5], host=host()) for second in range(61)]
    batches = [batch for one in looks if (batch := window.add(one)) is not None]
    assert [batch.seq for batch in batches] == list(range(1, 13))
    assert [newest_ms(batch) // 1000 for batch in batches] == list(range(5, 61, 5))


def test_a_machine_that_was_suspended_goes_on_with_a_whole_window() -> None:
    window = Window(epoch="e", seconds=5)
    assert window.add(look(0, host=host())) is None
    assert window.add(look(3600, host=host())) is not None
    assert window.add(look(3604, host=host())) is None
    assert window.add(look(3605, host=host())) is not None


def test_a_new_length_counts_from_the_next_window_on_and_is_kept_within_reason() -> None:
    window = Window(epoch="e", seconds=5)
    assert window.add(look(0, host=host())) is None
    window.resize(10)
    assert window.add(look(5, host=host())) is not None
    assert window.add(look(10, host=host())) is None
    assert window.add(look(15, host=host())) is not None
    window.resize(0)
    assert window.seconds == 1
    window.resize(1e9)
    assert window.seconds == 300


def test_what_was_seen_for_a_part_of_the_window_has_a_row_of_that_part() -> None:
    window = Window(epoch="e", seconds=2)
    batch = batch_of(
        window,
        look(0, host=host(), tasks=(task("old", memory_mib=1.0),)),
        look(1, tasks=(task("new", memory_mib=4.0),)),
        look(2, tasks=(task("new", memory_mib=2.0),)),
    )
    assert batch.host is not None
    assert batch.tasks is not None
    assert batch.tasks.keys == ("old", "new")
    assert batch.tasks.values.model_dump(exclude_none=True) == {
        "memory_mib": [1.0, 3.0],
        "memory_peak_mib": [1.0, 4.0],
    }


def test_a_column_that_nobody_measured_is_left_out_and_unknown_stays_unknown() -> None:
    window = Window(epoch="e", seconds=1)
    devices = (device("GPU-a", fan_percent=30), device("GPU-b"))
    batch = batch_of(window, look(0, devices=devices), look(1, devices=devices))
    assert device_values(batch) == {"fan_percent": [30.0, None]}
    assert '"power_watts"' not in batch.model_dump_json(exclude_defaults=True)


@pytest.mark.parametrize("nonsense", [-1.0, math.nan, math.inf, 1e30])
def test_what_cannot_be_is_unknown_and_the_rest_of_the_row_counts(nonsense: float) -> None:
    window = Window(epoch="e", seconds=1)
    devices = (device("GPU-a", power_watts=nonsense, temperature_celsius=40),)
    batch = batch_of(window, look(0, devices=devices), look(1, devices=devices))
    assert device_values(batch) == {"temperature_celsius": [40]}


def test_a_window_in_which_nothing_could_be_measured_makes_no_batch_and_uses_no_number() -> None:
    window = Window(epoch="e", seconds=1)
    assert [window.add(look(second)) for second in range(4)] == [None] * 4
    batch = window.add(look(4, host=host()))
    assert batch is not None
    assert batch.seq == 1


def test_a_device_without_a_single_known_value_still_has_its_row() -> None:
    window = Window(epoch="e", seconds=1)
    batch = batch_of(window, look(0, devices=(device("GPU-a"),)), look(1))
    assert row_count(batch) == 1
    assert device_values(batch) == {}
