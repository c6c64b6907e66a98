"""Which table is asked: as coarse as the points allow, finer at the new end, coarser at the old."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db.samples.tables import HOUR, MINUTE, RAW
from app.metrics.stretches import Cut, State, cut

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOW_MS = 20_000 * DAY_MS + 12 * HOUR_MS + 30 * MINUTE_MS + 7
ROLLED = State(
    done_until_ms={HOUR: NOW_MS // HOUR_MS * HOUR_MS, MINUTE: NOW_MS // MINUTE_MS * MINUTE_MS},
    kept_from_ms={RAW: NOW_MS - 2 * DAY_MS, MINUTE: NOW_MS - 14 * DAY_MS, HOUR: 0},
)


def names(found: Cut) -> list[str]:
    return [stretch.resolution.name for stretch in found.stretches]


@pytest.mark.parametrize(
    ("length_ms", "points", "resolution", "tables"),
    [
        (HOUR_MS, 300, RAW, ["samples"]),
        (6 * HOUR_MS, 2_000, RAW, ["samples"]),
        (7 * HOUR_MS, 2_000, MINUTE, ["minutes", "samples"]),
        (HOUR_MS, 60, MINUTE, ["minutes", "samples"]),
        (DAY_MS, 1_440, MINUTE, ["minutes", "samples"]),
        (7 * DAY_MS, 168, HOUR, ["hours", "minutes", "samples"]),
        (7 * DAY_MS, 2_000, MINUTE, ["minutes", "samples"]),
        (60 * DAY_MS, 2_000, MINUTE, ["hours", "minutes", "samples"]),
        (700 * DAY_MS, 10, HOUR, ["hours", "minutes", "samples"]),
    ],
)
def test_the_coarsest_table_that_gives_the_points_asked_for(
    length_ms: int, points: int, resolution: object, tables: list[str]
) -> None:
    found = cut(NOW_MS - length_ms, NOW_MS, points=points, state=ROLLED)
    assert found.resolution is resolution
    assert names(found) == tables


def test_what_is_not_rolled_up_yet_is_taken_from_finer_rows() -> None:
    found = cut(NOW_MS - 7 * DAY_MS, NOW_MS, points=100, state=ROLLED)
    _, minutes, raw = found.stretches
    assert minutes.start_ms == ROLLED.done_until_ms[HOUR]
    assert raw.start_ms == ROLLED.done_until_ms[MINUTE]
    assert raw.end_ms == NOW_MS
    fresh = State(done_until_ms={}, kept_from_ms=ROLLED.kept_from_ms)
    assert names(cut(NOW_MS - DAY_MS, NOW_MS, points=100, state=fresh)) == ["samples"]


def test_rows_that_are_gone_are_taken_from_coarser_ones() -> None:
    start_ms = NOW_MS - 3 * DAY_MS
    found = cut(start_ms, start_ms + HOUR_MS, points=300, state=ROLLED)
    assert names(found) == ["minutes"], "as they came they were kept for two days"
    start_ms = NOW_MS - 30 * DAY_MS
    assert names(cut(start_ms, start_ms + HOUR_MS, points=300, state=ROLLED)) == ["hours"]


@pytest.mark.parametrize(("start_ms", "end_ms", "points"), [(5, 5, 1), (6, 5, 1), (0, 5, 0)])
def test_an_empty_range_and_no_points_are_refused(start_ms: int, end_ms: int, points: int) -> None:
    with pytest.raises(ValueError, match="points of"):
        cut(start_ms, end_ms, points=points, state=ROLLED)


@given(
    start=st.integers(0, NOW_MS),
    length=st.integers(1, 3 * 365 * DAY_MS),
    points=st.integers(1, 2_000),
)
def test_stretches_follow_one_another_and_points_are_as_many_as_asked_at_most(
    start: int, length: int, points: int
) -> None:
    found = cut(start, start + length, points=points, state=ROLLED)
    assert found.origin_ms <= start
    assert found.origin_ms + points * found.width_ms >= start + length
    assert found.width_ms % max(found.resolution.width_ms, 1) == 0
    first, *_, last = (*found.stretches, found.stretches[-1])
    assert (first.start_ms, last.end_ms) == (found.base_ms, start + length)
    for one, next_ in zip(found.stretches, found.stretches[1:], strict=False):
        assert one.end_ms == next_.start_ms
        assert one.end_ms % one.resolution.width_ms == 0, "a row is in one stretch only"
