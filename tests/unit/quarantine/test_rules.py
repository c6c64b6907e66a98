"""The rules that take a device out of service: what they say, and that unknown says nothing."""

from statistics import median

import pytest

from app.quarantine import rules
from app.quarantine.rules import Code, Pace, Thresholds
from app.streaks import Streak

LIMITS = Thresholds(
    busy_percent=50,
    throttled_seconds=600,
    throttled_clear_seconds=1800,
    slow_seconds=600,
    slow_ratio=0.75,
    unmanaged_seconds=60,
)


def lasting(seconds: float, value: bool = True) -> Streak:
    return Streak(value=value, since_ms=0, until_ms=round(seconds * 1000))


def test_hardware_errors_are_faults_and_a_programs_own_mistakes_are_not() -> None:
    assert rules.xid_fault(31, "") is None
    fault = rules.xid_fault(79, "PCI:0000:10")
    assert fault is not None
    assert fault.startswith("Xid 79")
    assert fault.endswith("PCI:0000:10")


def test_which_codes_end_by_rule() -> None:
    by_hand = {code for code in Code if not code.ended_by_rule}
    assert by_hand == {Code.MANUAL, Code.ECC}


@pytest.mark.parametrize(
    ("count", "acknowledged", "faulty"),
    [(None, 0, None), (0, 0, False), (1, 0, True), (3, 3, False), (4, 3, True), (1, 0.0, True)],
)
def test_uncorrected_errors_count_beyond_those_let_pass(
    count: float | None, acknowledged: float, faulty: bool | None
) -> None:
    verdict = rules.ecc(count, acknowledged=acknowledged)
    assert (None if verdict is None else verdict.faulty) is faulty


def test_ecc_gives_its_numbers() -> None:
    verdict = rules.ecc(5, acknowledged=3)
    assert verdict is not None
    assert "5 uncorrected memory errors" in verdict.reason
    assert "2 of them new" in verdict.reason


@pytest.mark.parametrize(
    ("pending", "failed", "faulty"),
    [
        (None, None, None),
        (None, 0, None),
        (0, None, False),
        (0, 0, False),
        (1, 0, True),
        (0, 1, True),
        (None, 1, True),
    ],
)
def test_a_memory_repair_that_waits_or_failed_is_a_fault(
    pending: float | None, failed: float | None, faulty: bool | None
) -> None:
    verdict = rules.memory_repair(pending, failed)
    assert (None if verdict is None else verdict.faulty) is faulty


def test_an_acknowledged_repair_is_no_fault_and_not_over_either() -> None:
    assert rules.memory_repair(1, 0, acknowledged_pending=1) is None
    assert rules.memory_repair(0, 1, acknowledged_failed=1) is None


@pytest.mark.parametrize(
    ("reasons", "utilization", "throttled"),
    [
        (None, 100, None),
        (0, 100, False),
        (0x04, 100, False),
        (0x40, 100, True),
        (0x08, 50, True),
        (0x80, 49, None),
        (0x20, None, None),
        (0x01, 0, False),
    ],
)
def test_heat_and_power_brakes_count_while_busy_and_a_power_cap_never(
    reasons: float | None, utilization: float | None, throttled: bool | None
) -> None:
    assert rules.is_throttled(reasons, utilization, LIMITS) is throttled


def test_throttling_counts_when_it_lasts_and_is_over_when_clear_lasts_longer() -> None:
    def judged(streak: Streak | None) -> bool | None:
        verdict = rules.throttled(streak, reasons=0x48, celsius=91, limits=LIMITS)
        return None if verdict is None else verdict.faulty

    assert judged(None) is None
    assert judged(lasting(599)) is None
    assert judged(lasting(600)) is True
    assert judged(lasting(1799, value=False)) is None
    assert judged(lasting(1800, value=False)) is False
    verdict = rules.throttled(lasting(660), reasons=0x48, celsius=91, limits=LIMITS)
    assert verdict is not None
    assert "for 11 min" in verdict.reason
    assert "hardware slowdown, hardware thermal slowdown, 91 C" in verdict.reason


def test_a_device_is_compared_with_busy_peers_alone_and_with_two_at_least() -> None:
    devices = [("a", 1000.0, 90.0), ("b", 1900.0, 95.0), ("c", 2000.0, 99.0)]
    first, *others = rules.paces(devices[::-1], LIMITS)
    assert first == Pace(device="a", clock_sm_mhz=1000, peers_mhz=1950, peers=2)
    assert rules.is_slow(first, LIMITS)
    assert not any(rules.is_slow(pace, LIMITS) for pace in others)
    assert list(rules.paces(devices[:2], LIMITS)) == []
    idle = [*devices[:2], ("c", 2000.0, 10.0), ("d", None, 99.0), ("e", 2000.0, None)]
    assert list(rules.paces(idle, LIMITS)) == []


@pytest.mark.parametrize("count", [3, 4, 5, 6, 9])
def test_each_is_compared_with_the_median_of_all_others(count: int) -> None:
    clocks = [float(1000 + 7 * number * number) for number in range(count)]
    devices = [(str(number), clock, 99.0) for number, clock in enumerate(clocks)]
    for pace in rules.paces(devices, LIMITS):
        others = [clock for name, clock, _ in devices if name != pace.device]
        assert pace.peers_mhz == median(others)
        assert pace.peers == count - 1


def test_a_quarter_slower_for_long_is_a_slow_rank() -> None:
    pace = Pace(device="a", clock_sm_mhz=1400, peers_mhz=1980, peers=7)
    assert rules.slow(lasting(599), pace, LIMITS) is None
    assert rules.slow(lasting(600), None, LIMITS) is None, "nobody to compare with is unknown"
    verdict = rules.slow(lasting(600), pace, LIMITS)
    assert verdict is not None
    assert verdict.faulty
    assert "1400 MHz, the median of 7 peers under the same load 1980 MHz" in verdict.reason
    well = rules.slow(lasting(600, value=False), pace, LIMITS)
    assert well is not None
    assert not well.faulty


def test_foreign_processes_count_in_rows_that_follow_each_other() -> None:
    assert rules.unmanaged(None, processes=2, memory_mib=None, limits=LIMITS) is None
    assert rules.unmanaged(lasting(59), processes=2, memory_mib=None, limits=LIMITS) is None
    verdict = rules.unmanaged(lasting(120), processes=2, memory_mib=512, limits=LIMITS)
    assert verdict is not None
    assert "2 processes with 512 MiB of no task hold it since 2 min" in verdict.reason
    gone = rules.unmanaged(lasting(60, value=False), processes=0, memory_mib=0, limits=LIMITS)
    assert gone is not None
    assert not gone.faulty
