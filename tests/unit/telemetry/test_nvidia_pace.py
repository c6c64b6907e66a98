"""How often a sensor is read; between its readings its last value stands."""

from pathlib import Path

from telemetry.probes.nvidia_process import NvidiaProcess
from tests.nvml.build import DRIVER, h100, write_script
from tests.unit.telemetry.conftest import Clock


def world(script: Path, value: int, *rules: str, gpus: int = 1) -> None:
    """Every tier has a sensor that reads ``value``."""
    sensors = f"temperature={value} energy={value * 1000} fan={value}"
    write_script(script, *DRIVER, *(h100(i, sensors) for i in range(gpus)), *rules)


def values(probe: NvidiaProcess) -> list[tuple[int | None, float | None, int | None]]:
    """Of each GPU a fast, a medium and a slow one."""
    return [(s.temperature_celsius, s.energy_joules, s.fan_percent) for s in probe.read().samples]


def test_a_value_of_a_slower_tier_stands_until_its_next_reading(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    world(script, 1)
    assert values(probe) == [(1, 1, 1)]
    world(script, 2)
    clock.now += 4
    assert values(probe) == [(2, 1, 1)]
    clock.now += 1
    assert values(probe) == [(2, 2, 1)]
    clock.now += 54
    assert values(probe) == [(2, 2, 1)]
    clock.now += 1
    assert values(probe) == [(2, 2, 2)]


def test_gpus_take_turns_with_what_is_costly(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    world(script, 1, gpus=5)
    assert values(probe) == [(1, 1, 1)] * 5
    world(script, 2, gpus=5)
    fresh = []
    for _ in range(5):
        clock.now += 1
        fresh.append([energy for _, energy, _ in values(probe)].count(2))
    assert fresh == [1, 2, 3, 4, 5]


def test_a_call_beyond_its_budget_is_made_less_often_and_says_so(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    world(script, 1, "delay 0 nvmlDeviceGetTemperature 30")
    for _ in range(5):
        reading = probe.read()
    assert (reading.message or "").startswith("temperature of GPU-0 takes ")
    assert (reading.message or "").endswith(" ms to read: it's read every 5 s only")
    world(script, 2)
    clock.now += 4
    assert values(probe)[0][0] == 1
    clock.now += 1
    assert values(probe)[0][0] == 2


def test_a_single_slow_call_changes_nothing(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    world(script, 1)
    for _ in range(4):
        probe.read()
    world(script, 1, "delay 0 nvmlDeviceGetTemperature 30")
    probe.read()
    world(script, 2)
    assert values(probe)[0][0] == 2
    assert probe.read().message is None


def test_a_failed_reading_is_unknown_and_not_the_value_before(
    probe: NvidiaProcess, script: Path
) -> None:
    world(script, 1)
    probe.read()
    world(script, 1, "fail 0 nvmlDeviceGetTemperature 17")
    assert values(probe) == [(None, 1, 1)]


def test_who_uses_a_device_is_looked_at_anew_when_somebody_asks(
    probe: NvidiaProcess, script: Path, clock: Clock
) -> None:
    held = ("process 0 4242 100", "process 1 4243 200")
    world(script, 1, *held, gpus=2)
    assert [len(sample.processes or ()) for sample in probe.read().samples] == [1, 1]
    world(script, 2, gpus=2)
    reading = probe.read()
    assert [len(sample.processes or ()) for sample in reading.samples] == [1, 1]
    assert reading.fresh_at == {}
    reading = probe.read({"GPU-1"})
    assert [len(sample.processes or ()) for sample in reading.samples] == [1, 0]
    assert reading.fresh_at == {"GPU-1": clock.now}
    assert [sample.energy_joules for sample in reading.samples] == [1, 1], "nothing else is hurried"
    assert probe.read().fresh_at == {}


def test_a_late_answer_is_as_fresh_as_its_own_request(
    nvml_library: Path, script: Path, clock: Clock
) -> None:
    probe = NvidiaProcess(
        library=nvml_library, deadline_seconds=120, wait_seconds=0, boot_seconds=clock
    )
    try:
        world(script, 1)
        probe.read()
        asked_at = clock.now
        while not (reading := probe.read({"GPU-0"})).fresh_at:
            clock.now += 1e-9
            assert reading.fresh_at == {}
        assert asked_at <= reading.fresh_at["GPU-0"] <= clock.now
        clock.now += 1
        assert "GPU-0" not in probe.read({"nobody"}).fresh_at
    finally:
        probe.close()
