"""What people write and what it means, as tables."""

from datetime import UTC, datetime

import pytest

from client import quantities


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("512MiB", 512),
        ("4GiB", 4096),
        ("4G", 4096),
        ("1.5 GiB", 1536),
        ("1TiB", 1 << 20),
        ("1KiB", 1),
        ("1GB", 954),
    ],
)
def test_size_becomes_mib_rounded_up(text: str, mib: int) -> None:
    assert quantities.memory_mib(text) == mib


@pytest.mark.parametrize("text", ["4", "", "GiB", "-1GiB", "4gib", "4 XiB", "1e3MiB", "٤GiB"])
def test_size_without_number_or_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unit"):
        quantities.memory_mib(text)


@pytest.mark.parametrize(
    ("text", "milli"), [("2", 2000), ("0.5", 500), ("500m", 500), ("0.001", 1), ("0", 0)]
)
def test_cores_become_thousandths(text: str, milli: int) -> None:
    assert quantities.cpu_milli(text) == milli


@pytest.mark.parametrize("text", ["", "two", "0.0005", "1.5m", "NaN", "Infinity", "m"])
def test_cores_that_are_no_thousandths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"core"):
        quantities.cpu_milli(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("0.5s", 0.5)],
)
def test_duration_becomes_seconds(text: str, seconds: float) -> None:
    assert quantities.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5x", "30m1h"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        quantities.seconds(text)


def test_assignment_splits_at_the_first_equals_sign() -> None:
    assert quantities.assignment("URL=http://h/?a=b") == ("URL", "http://h/?a=b")
    assert quantities.assignment("EMPTY=") == ("EMPTY", "")


@pytest.mark.parametrize("text", ["", "NAME", "=value"])
def test_assignment_without_name_or_sign_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        quantities.assignment(text)


def test_selector_lists_the_values_of_which_one_is_needed() -> None:
    assert quantities.selector("zone=a,b") == ("zone", ("a", "b"))


@pytest.mark.parametrize("text", ["zone=", "zone=a,", "zone"])
def test_selector_with_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="VALUE"):
        quantities.selector(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.0s"),
        (59.94, "59.9s"),
        (59.96, "1m00s"),
        (65, "1m05s"),
        (3_599.7, "1h00m"),
        (7_800, "2h10m"),
        (273_600, "3d04h"),
    ],
)
def test_duration_is_shown_in_two_units_at_most(seconds: float | None, text: str) -> None:
    assert quantities.duration_text(seconds) == text


def test_unknown_is_never_shown_as_zero() -> None:
    assert quantities.memory_text(None) == "-"
    assert quantities.percent_text(None) == "-"
    assert quantities.percent_text(0.0) == "0%"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("gpu_milli=16000", ("gpu_milli", 16000)),
        ("gpu_milli:H100=SXM=8000", ("gpu_milli:H100=SXM", 8000)),
        ("memory_mib=64GiB", ("memory_mib", 65536)),
        ("memory_mib=64", ("memory_mib", 64)),
        ("cpu_milli=none", ("cpu_milli", None)),
    ],
)
def test_share_is_a_dimension_and_a_quantity(text: str, read: tuple[str, int | None]) -> None:
    assert quantities.share(text) == read


@pytest.mark.parametrize(
    "text",
    ["gpu_milli", "=1", "gpu_milli=", "gpu_milli=-1", "gpus=1.5", "cpu_milli=4GiB", "gpus=\u0661"],
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is wanted"):
        quantities.share(text)


def test_a_moment_is_from_now_or_of_the_calendar() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert quantities.moment_text("+1h30m", now=now) == "2026-01-01T01:30:00+00:00"
    given = "2026-12-01T08:00:00+01:00"
    assert datetime.fromisoformat(quantities.moment_text(given)) == datetime.fromisoformat(given)
    assert datetime.fromisoformat(quantities.moment_text("2026-12-01T08:00")).tzinfo is not None


@pytest.mark.parametrize("text", ["", "+", "soon", "+soon", "+99999999999d", "2026-13-01", "+-1h"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|ahead"):
        quantities.moment_text(text)
