"""Which table says what of a range of time: as coarse as the points asked for allow, finer where
that isn't rolled up yet, coarser where the finer rows are gone. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.db.samples.tables import HOUR, MINUTE, RAW, Resolution

_RAW_RANGE_MS = 6 * 3_600_000
"""A range longer than this is never read from rows as they came: there are too many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the store has of one kind: up to where it's rolled up, and since when rows are kept."""

    done_until_ms: Mapping[Resolution, int]
    kept_from_ms: Mapping[Resolution, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Rows of one resolution in ``[start_ms, end_ms)``."""

    resolution: Resolution
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A range cut into points of ``width_ms``, the first at ``origin_ms``.

    The stretches follow one another in time. The first begins one point early: a rate needs the
    reading before.
    """

    resolution: Resolution
    origin_ms: int
    width_ms: int
    stretches: tuple[Stretch, ...]

    @property
    def base_ms(self) -> int:
        """Where the point before the first begins: its number is 0."""
        return self.origin_ms - self.width_ms


def cut(start_ms: int, end_ms: int, *, points: int, state: State) -> Cut:
    """Cut ``[start_ms, end_ms)`` into at most so many points.

    Raises:
        ValueError: the range is empty or turned, or no point is asked for.
    """
    if end_ms <= start_ms or points < 1:
        raise ValueError(f"{points} points of [{start_ms}, {end_ms})")
    resolution = _resolution(start_ms, end_ms, points)
    table_ms = max(resolution.width_ms, 1)
    origin_ms = start_ms // table_ms * table_ms
    width_ms = _up(-(-(end_ms - origin_ms) // points), table_ms)
    return Cut(
        resolution=resolution,
        origin_ms=origin_ms,
        width_ms=width_ms,
        stretches=_stretches(resolution, origin_ms - width_ms, end_ms, state),
    )


def _resolution(start_ms: int, end_ms: int, points: int) -> Resolution:
    width_ms = -(-(end_ms - start_ms) // points)
    if width_ms >= HOUR.width_ms:
        return HOUR
    if width_ms >= MINUTE.width_ms or end_ms - start_ms > _RAW_RANGE_MS:
        return MINUTE
    return RAW


def _stretches(
    resolution: Resolution, start_ms: int, end_ms: int, state: State
) -> tuple[Stretch, ...]:
    done, kept = state.done_until_ms, state.kept_from_ms
    hours_end = done.get(HOUR, 0)
    if resolution is not HOUR:
        hours_end = min(hours_end, _up(kept[MINUTE], HOUR.width_ms))
    minutes_end = max(done.get(MINUTE, 0), hours_end)
    if resolution is RAW:
        minutes_end = max(min(minutes_end, _up(kept[RAW], MINUTE.width_ms)), hours_end)
    bounds = [min(max(at, start_ms), end_ms) for at in (hours_end, minutes_end)]
    ends = zip((HOUR, MINUTE, RAW), (start_ms, *bounds), (*bounds, end_ms), strict=True)
    return tuple(
        Stretch(resolution=of, start_ms=begin, end_ms=end) for of, begin, end in ends if end > begin
    )


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
