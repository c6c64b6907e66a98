"""What past waits teach; and that what is told of the next ones holds."""

import math

import pytest

from benchmarks.timeplan_history import history
from solver.scheduling.timeplan.calibration import (
    FACTOR_MAX,
    OUTCOMES_MIN,
    SMOOTH_SECONDS,
    Calibration,
    Outcome,
    calibrated,
)


def wait(seconds: float, *, told: float = math.inf, is_over: bool = True) -> Outcome:
    """Of one that was said to wait 100 s by the median and 200 s at most."""
    return Outcome(
        p50_seconds=100.0,
        p90_seconds=200.0,
        told_p90_seconds=told,
        waited_seconds=seconds,
        is_over=is_over,
    )


def test_from_a_few_waits_nothing_is_learned() -> None:
    assert calibrated([wait(1e6)] * (OUTCOMES_MIN - 1)).p90 == pytest.approx(1, 0.1)


def test_waits_that_are_twice_as_long_as_drawn_double_what_is_told() -> None:
    doubled = [wait(2 * (200 + SMOOTH_SECONDS) - SMOOTH_SECONDS, told=1e9)] * 40
    _, p90 = calibrated(doubled).corrected(100.0, 200.0)
    assert p90 == pytest.approx(2 * 260 - 60, rel=0.1)


def test_who_waits_longer_than_told_counts_before_its_wait_is_over() -> None:
    known = [wait(100, told=200)] * 40
    late = [wait(900, told=200, is_over=False)] * 10
    assert calibrated([*known, *late]).p90 > 2 * calibrated(known).p90


def test_who_waits_for_less_than_was_told_yet_says_nothing() -> None:
    known = [wait(100, told=200)] * 40
    fresh = [wait(1, told=200, is_over=False)] * 100
    assert calibrated([*known, *fresh]) == calibrated(known)


def test_a_start_that_is_now_or_unknown_stays_so() -> None:
    assert Calibration(p50=3, p90=5).corrected(0.0, 0.0) == (0.0, 0.0)
    assert Calibration(p50=3, p90=5).corrected(10.0, None)[1] is None
    assert Calibration(p50=3, p90=5).corrected(None, None) == (None, None)


def test_the_median_is_never_after_what_holds_in_nine_of_ten() -> None:
    p50, p90 = Calibration(p50=5.0, p90=0.5).corrected(100.0, 120.0)
    assert p50 is not None
    assert p50 == p90


def test_no_outlier_stretches_without_bound() -> None:
    assert calibrated([wait(1e12, told=1e13)] * 100).p90 <= FACTOR_MAX


def test_in_two_weeks_nine_starts_of_ten_come_by_the_time_that_was_told() -> None:
    verdict = history(seed=3, load=0.75)
    assert verdict.waits > 300
    assert 0.85 <= verdict.p90_ratio <= 0.95
    assert 0.4 <= verdict.p50_ratio <= 0.65
    assert verdict.drawn_ratio < verdict.p90_ratio  # the draws know nothing of who comes later
