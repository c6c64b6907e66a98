from datetime import UTC, datetime

from app.ids import TimeOrderedIds


class Frozen:
    """A clock that stands still, then goes back."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


def test_ids_sort_by_the_order_in_which_they_were_made_even_when_the_clock_goes_back() -> None:
    clock = Frozen()
    ids = TimeOrderedIds(clock)
    made = [ids.new("t") for _ in range(500)]
    clock.at = datetime(2025, 1, 1, tzinfo=UTC)
    made += [ids.new("t") for _ in range(500)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {len(identifier) for identifier in made} == {len("t-") + 16}
