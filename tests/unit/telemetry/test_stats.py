from dataclasses import replace

import pytest

from telemetry.samples import HostSample
from telemetry.stats import counter_rate, cpu_busy_ratio, quantile

SAMPLE = HostSample(
    taken_at_ms=1_000,
    cpu_user_seconds=10.0,
    cpu_system_seconds=5.0,
    cpu_idle_seconds=100.0,
    memory_total_mib=1024,
    memory_available_mib=512,
    disk_read_bytes=1_000,
)


@pytest.mark.parametrize(
    ("earlier", "later", "seconds", "rate"),
    [
        (10, 30, 4, 5.0),
        (1_000, 5_000, 2, 2_000.0),
        (None, 30, 4, None),
        (10, None, 4, None),
        (30, 10, 4, None),
        (1, 2, 0, None),
    ],
)
def test_a_rate_is_growth_over_time_or_unknown(
    earlier: float | None, later: float | None, seconds: float, rate: float | None
) -> None:
    assert counter_rate(earlier, later, seconds) == rate


def busy(earlier: HostSample, later: HostSample) -> float | None:
    def growth(counter: str) -> float | None:
        return counter_rate(getattr(earlier, counter), getattr(later, counter), 1)

    return cpu_busy_ratio(growth)


def test_busy_ratio_is_the_share_of_cpu_time() -> None:
    later = replace(SAMPLE, cpu_user_seconds=12.0, cpu_system_seconds=6.0, cpu_idle_seconds=101.0)
    assert busy(SAMPLE, later) == 0.75
    assert busy(later, SAMPLE) is None
    assert busy(SAMPLE, SAMPLE) is None


def test_quantile_interpolates_between_neighbours() -> None:
    assert [quantile([4, 1, 3, 2], q) for q in (0, 0.5, 1)] == [1, 2.5, 4]


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 1.5)])
def test_quantile_refuses_what_has_none(values: list[float], q: float) -> None:
    with pytest.raises(ValueError, match="a quantile needs values"):
        quantile(values, q)
