"""Usage of an attempt and what is advised by it: numbers with headroom, nothing from unknown."""

from dataclasses import replace
from typing import Any

import pytest

from app.advice.sizing import Advice, Asked, Confidence, advise
from app.advice.usage import Row, Spread, Usage, usage

MINUTE_MS = 60_000


def row(minute: int, **values: float | None) -> Row:
    names = (
        "cpu_seconds", "memory_mib", "memory_peak_mib", "gpu_memory_mib", "gpu_memory_peak_mib",
        "gpu_utilization_percent", "gpu_utilization_peak_percent", "gpu_process_peak_count",
    )  # fmt: skip
    known: dict[str, Any] = {name: values.get(name) for name in names}
    return Row(taken_at_ms=minute * MINUTE_MS, **known)


def test_percentiles_are_of_minutes_and_peaks_of_single_readings() -> None:
    rows = [
        row(minute, gpu_utilization_percent=minute, gpu_utilization_peak_percent=minute + 30)
        for minute in range(21)
    ]
    used = usage([rows], width_ms=MINUTE_MS)
    busy = used.gpu_utilization_percent
    assert busy is not None
    assert (busy.peak, busy.p95, busy.p50, busy.known_ratio) == (50, 19, 10, 1)
    assert used.measured_seconds == 21 * 60
    assert used.memory_mib is None, "what nobody measured isn't zero"


def test_processors_are_rates_between_minutes_that_follow_each_other() -> None:
    rows = [row(0, cpu_seconds=10), row(1, cpu_seconds=130), row(2, cpu_seconds=190)]
    cores = usage([rows], width_ms=MINUTE_MS).cpu_cores
    assert cores is not None
    assert (cores.peak, cores.p50) == (2, 1.5)
    gone_back = [row(0, cpu_seconds=100), row(1, cpu_seconds=40)]
    apart = [row(0, cpu_seconds=0), row(5, cpu_seconds=300)]
    alone = [row(0, cpu_seconds=0)]
    for rows in (gone_back, apart, alone):
        assert usage([rows], width_ms=MINUTE_MS).cpu_cores is None


def test_all_replicas_count_and_the_one_that_uses_most_is_known() -> None:
    light = [row(minute, memory_mib=100, memory_peak_mib=110) for minute in range(3)]
    heavy = [row(minute, memory_mib=500, memory_peak_mib=900) for minute in range(2)]
    used = usage([light, heavy, []], width_ms=MINUTE_MS)
    assert used.memory_mib == Spread(peak=900, p95=500, p50=100, most_p95=500, known_ratio=1)
    assert used.measured_seconds == 180


def test_the_share_of_rows_that_knew_a_quantity_is_told() -> None:
    rows = [row(0, memory_mib=1), row(1), row(2), row(3, memory_mib=1)]
    memory = usage([rows], width_ms=MINUTE_MS).memory_mib
    assert memory is not None
    assert memory.known_ratio == 0.5


def spread(p95: float, peak: float | None = None, known: float = 1.0) -> Spread:
    return Spread(
        peak=p95 if peak is None else peak, p95=p95, p50=p95, most_p95=p95, known_ratio=known
    )


def asked(**request: int) -> Asked:
    nothing = {"gpus": 0, "gpu_milli": 1000, "gpu_memory_mib": 0, "cpu_milli": 0, "memory_mib": 0}
    return Asked(
        request=nothing | request,
        replicas=1,
        is_service=False,
        held_hours=10,
        gpu_memory_of_device_mib=40_960,
    )


def used(hours: float = 10, **quantities: Spread) -> Usage:
    known: dict[str, Any] = quantities
    return Usage(measured_seconds=hours * 3_600, **known)


def by_field(advice: list[Advice]) -> dict[str, int]:
    return {one.field: one.suggested for one in advice}


def test_a_device_that_is_little_used_could_be_a_share() -> None:
    [one] = advise(asked(gpus=1), used(gpu_utilization_percent=spread(22)))
    assert (one.field, one.now, one.suggested) == ("gpu_milli", 1000, 300)
    assert one.gpu_hours == pytest.approx(7)
    assert "22 % busy" in one.text
    assert "25% headroom" in one.text


def test_many_devices_could_be_fewer_when_their_memory_fits_too() -> None:
    light = used(gpu_utilization_percent=spread(30), gpu_memory_mib=spread(10_000))
    [one] = advise(replace(asked(gpus=8), replicas=2), light)
    assert (one.field, one.suggested, one.gpu_hours) == ("gpus", 3, 100)
    heavy = replace(light, gpu_memory_mib=spread(20_000))
    assert advise(asked(gpus=8), heavy) == [], "8 x 20,000 MiB don't fit on three of 40,960"
    assert advise(asked(gpus=8), replace(light, gpu_memory_mib=None)) == []


def test_devices_never_used_could_be_given_up() -> None:
    [one] = advise(asked(gpus=2), used(gpu_utilization_percent=spread(0)))
    assert (one.suggested, one.gpu_hours) == (0, 20)
    assert by_field(advise(asked(gpus=2), used(gpu_utilization_percent=spread(0, peak=5)))) == {}


def test_memory_goes_by_its_peak_and_processors_by_most_of_the_time() -> None:
    quantities = used(
        gpu_memory_mib=spread(1_000, peak=8_000),
        cpu_cores=spread(1.5, peak=7.9),
        memory_mib=spread(1_000, peak=4_000),
    )
    request = asked(gpus=1, gpu_memory_mib=20_000, cpu_milli=8_000, memory_mib=16_384)
    assert by_field(advise(request, quantities)) == {
        "gpu_memory_mib": 9_728,
        "cpu_milli": 1_900,
        "memory_mib": 4_800,
    }
    service = replace(request, is_service=True)
    assert "cpu_milli" not in by_field(advise(service, quantities)), "its peak is what counts"


def test_what_is_nearly_right_is_left_alone() -> None:
    assert advise(asked(gpus=1), used(gpu_utilization_percent=spread(70))) == []
    assert advise(asked(memory_mib=1_000), used(memory_mib=spread(700))) == []
    assert advise(asked(), used(cpu_cores=spread(0.1), memory_mib=spread(1))) == []


def test_nothing_is_advised_from_unknown() -> None:
    request = asked(gpus=1, cpu_milli=8_000, memory_mib=16_384, gpu_memory_mib=30_000)
    assert advise(request, used()) == []
    half = used(gpu_utilization_percent=spread(5, known=0.5), memory_mib=spread(5, known=0.79))
    assert advise(request, half) == []
    seen_for_a_part = used(7, gpu_utilization_percent=spread(5))
    assert advise(request, seen_for_a_part) == [], "of three hours in ten nothing is known"


@pytest.mark.parametrize(
    ("hours", "confidence"),
    [
        (0.99, None),
        (1, Confidence.LOW),
        (6, Confidence.MEDIUM),
        (23.9, Confidence.MEDIUM),
        (24, Confidence.HIGH),
    ],
)
def test_confidence_grows_with_the_time_measured(
    hours: float, confidence: Confidence | None
) -> None:
    request = replace(asked(gpus=1), held_hours=hours)
    advice = advise(request, used(hours, gpu_utilization_percent=spread(5)))
    assert [one.confidence for one in advice] == ([] if confidence is None else [confidence])
