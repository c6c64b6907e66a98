"""Half-life usage in closed form, against adding it up second by second."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.queues.usage import Hold, faded, usage

DAY = 86_400.0
seconds = st.floats(min_value=0, max_value=30 * DAY)


def added_up(hold: Hold, now: float, half_life: float, steps: int = 4_000) -> float:
    """The integral by the midpoint rule."""
    until = min(hold.until, now)
    width = (until - hold.since) / steps
    middles = (hold.since + (step + 0.5) * width for step in range(steps))
    return sum(hold.gpus * 2 ** (-(now - at) / half_life) * width for at in middles)


@given(since=seconds, held=seconds, after=seconds, half_life=st.floats(3_600, 30 * DAY))
def test_the_closed_form_is_the_integral(
    since: float, held: float, after: float, half_life: float
) -> None:
    hold = Hold(gpus=3, since=since, until=since + held)
    now = since + held + after
    found = usage([hold], now=now, half_life_seconds=half_life)
    assert found == pytest.approx(added_up(hold, now, half_life), rel=1e-3, abs=1e-6)


@given(cuts=st.lists(seconds, min_size=1, max_size=6), half_life=st.floats(60, 30 * DAY))
def test_looking_in_between_changes_nothing(cuts: list[float], half_life: float) -> None:
    holds = [Hold(gpus=2, since=100, until=50_000), Hold(gpus=0.5, since=40_000, until=31 * DAY)]
    now = 31 * DAY
    at, kept = 0.0, 0.0
    for cut in [*sorted(cuts), now]:
        kept = faded(kept, seconds=cut - at, half_life_seconds=half_life)
        kept += usage(
            [Hold(gpus=h.gpus, since=max(h.since, at), until=h.until) for h in holds],
            now=cut,
            half_life_seconds=half_life,
        )
        at = cut
    assert kept == pytest.approx(usage(holds, now=now, half_life_seconds=half_life), rel=1e-9)


def test_what_was_held_a_half_life_ago_counts_half() -> None:
    hold = Hold(gpus=1, since=0, until=1)
    then = usage([hold], now=1, half_life_seconds=DAY)
    assert then == pytest.approx(1, rel=1e-4)
    assert usage([hold], now=1 + DAY, half_life_seconds=DAY) == pytest.approx(then / 2)


def test_a_hold_for_ever_tends_to_the_half_life_over_ln_2() -> None:
    found = usage([Hold(gpus=8, since=0, until=1e9)], now=1e9, half_life_seconds=DAY)
    assert found == pytest.approx(8 * DAY / 0.693147180559945)


@pytest.mark.parametrize(("since", "until"), [(5, 5), (7, 5), (20, 30)])
def test_what_was_never_held_or_is_not_yet_counts_nothing(since: float, until: float) -> None:
    assert usage([Hold(gpus=1, since=since, until=until)], now=10, half_life_seconds=60) == 0


def test_an_idle_holder_pays_as_much_as_a_busy_one_since_only_time_counts() -> None:
    holds = [Hold(gpus=g, since=s, until=s + 10) for g, s in itertools.product((1, 2), (0, 50))]
    at_once = usage(holds, now=100, half_life_seconds=60)
    assert at_once == pytest.approx(
        sum(usage([hold], now=100, half_life_seconds=60) for hold in holds)
    )
