"""Clocks that are off are corrected, by the least that a report may have taken."""

from app.metrics.clocks import NodeClocks


def noted(*differences_ms: int) -> int:
    clocks = NodeClocks()
    for at_ms, difference_ms in enumerate(differences_ms, start=10**6):
        clocks.note("n1", sent_at_ms=at_ms, arrived_at_ms=at_ms + difference_ms)
    return clocks.offset_ms("n1")


def test_the_way_here_is_no_offset() -> None:
    assert noted() == 0
    assert noted(20, 1_900, 300) == 0


def test_one_slow_report_is_the_networks_doing() -> None:
    assert noted(30, 9_000, 25) == 0


def test_a_clock_that_is_always_off_is_off_by_the_least_of_it() -> None:
    assert noted(5_040, 5_010, 7_500) == 5_010
    assert noted(-3_600_000 + 80, -3_600_000 + 20) == -3_600_000 + 20


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    assert noted(15, 20, 3_600_010) == 3_600_010
    assert noted(3_600_010, 3_600_020, 12) == 0


def test_nodes_have_their_own_clocks() -> None:
    clocks = NodeClocks()
    clocks.note("n1", sent_at_ms=0, arrived_at_ms=9_000)
    clocks.note("n2", sent_at_ms=0, arrived_at_ms=10)
    assert (clocks.offset_ms("n1"), clocks.offset_ms("n2")) == (9_000, 0)
