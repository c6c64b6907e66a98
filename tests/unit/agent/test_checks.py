"""What the answers to a service's checks come to."""

import pytest

from agent.checks import Tally
from protocol.task import Check

CHECK = Check(path="/up", interval_seconds=10, failures=3, start_seconds=60)


def tally(*answers: str, check: Check = CHECK) -> Tally:
    made = Tally(check=check, started_at_seconds=100.0)
    for wrong in answers:
        made.count(wrong)
    return made


@pytest.mark.parametrize(
    ("answers", "passing"),
    [
        ((), False),
        (("no",), False),
        (("no", ""), True),
        (("", "no", "no"), True),
        (("", "no", "no", "no"), False),
        (("", "no", "no", "no", ""), True),
        (("", "no", "no", "", "no", "no"), True),
    ],
)
def test_a_service_is_ready_from_its_first_pass_to_too_many_failures_in_a_row(
    answers: tuple[str, ...], passing: bool
) -> None:
    assert tally(*answers).passing is passing


def test_failures_while_it_starts_do_not_count_for_good() -> None:
    starting = tally("no", "no", "no", "no")
    assert starting.failed_for_good(159.0) == ""
    assert "failed 4 times in a row: no" in starting.failed_for_good(160.0)


def test_what_has_passed_once_fails_for_good_also_while_it_is_young() -> None:
    young = tally("", "no", "no")
    assert young.failed_for_good(101.0) == ""
    young.count("HTTP 500")
    assert young.failed_for_good(101.0) == (
        "its health check (GET /up) failed 3 times in a row: HTTP 500"
    )


def test_until_it_has_passed_it_is_asked_more_often() -> None:
    assert tally("no").pause_seconds() == 0.5
    assert tally("no", "").pause_seconds() == 10
    assert tally("no", check=Check(interval_seconds=0.2)).pause_seconds() == 0.2
