"""Forecasts, for a person."""

from client.forecast_view import calibration_lines, forecast_lines

_VIEW = {
    "elapsed_seconds": 0.0, "seconds_p50": 90.0, "seconds_p90": 7_200.0, "text": "5 runs like it",
}  # fmt: skip


def test_a_forecast_is_two_lines_and_one_more_of_what_runs() -> None:
    assert forecast_lines(_VIEW) == [
        "half of those like it run 1m30s, nine of ten 2h00m at most",
        "5 runs like it",
    ]
    assert forecast_lines({**_VIEW, "elapsed_seconds": 60.0})[0] == "it has run 1m00s"


def test_where_nothing_is_known_that_is_all_that_is_said() -> None:
    assert forecast_lines({**_VIEW, "seconds_p50": None, "text": "nothing like it has run"}) == [
        "nothing like it has run"
    ]


def test_calibration_names_its_parts_or_that_there_is_none() -> None:
    none = {"runs": 0, "within_p50_ratio": None, "within_p90_ratio": None, "unforeseen": 3}
    assert calibration_lines(none) == [
        "no run that was forecast has ended yet; of 3 more nothing was known"
    ]
    some = {"runs": 40, "within_p50_ratio": 0.5, "within_p90_ratio": 0.9, "unforeseen": 0}
    assert calibration_lines(some) == [
        "of the last 40 forecast runs 50% ended within their median, 90% within their 90 % quantile"
    ]
