"""For how long something has been so: gaps begin anew, unknown is neither yes nor no."""

from app.streaks import GAP_MS, Streak, follow, only_after


def test_equal_rows_go_on_and_another_value_begins_anew() -> None:
    streak = follow(None, [(1_000, True), (2_000, True), (5_000, True)])
    assert streak == Streak(value=True, since_ms=1_000, until_ms=5_000)
    assert streak.has_been(True, 4)
    assert not streak.has_been(True, 4.1)
    assert not streak.has_been(False, 0)
    assert follow(streak, [(6_000, False)]) == Streak(value=False, since_ms=6_000, until_ms=6_000)


def test_unknown_rows_count_for_nothing() -> None:
    assert follow(None, [(1_000, None), (2_000, None)]) is None
    streak = follow(None, [(1_000, True), (2_000, None), (3_000, True), (4_000, None)])
    assert streak == Streak(value=True, since_ms=1_000, until_ms=3_000)


def test_a_gap_says_nothing_of_the_time_between() -> None:
    near, far = 1_000 + GAP_MS, 1_000 + GAP_MS + 1
    assert follow(None, [(1_000, True), (near, True)]) == Streak(
        value=True, since_ms=1_000, until_ms=near
    )
    assert follow(None, [(1_000, True), (far, True)]) == Streak(
        value=True, since_ms=far, until_ms=far
    )


def test_rows_seen_before_change_nothing() -> None:
    streak = follow(None, [(1_000, True), (5_000, True)])
    assert follow(streak, [(2_000, False), (5_000, False)]) == streak


def test_what_was_before_a_moment_does_not_count() -> None:
    streak = Streak(value=True, since_ms=1_000, until_ms=5_000)
    assert only_after(streak, 3_000) == Streak(value=True, since_ms=3_000, until_ms=5_000)
    assert only_after(streak, 500) == streak
    assert only_after(streak, 5_000) is None
    assert only_after(None, 0) is None
