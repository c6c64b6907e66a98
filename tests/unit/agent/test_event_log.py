from pathlib import Path

import pytest

from agent.samples.event_log import EVENTS_PER_REPORT, EventLog
from telemetry.samples import DeviceEvent, DeviceEventKind
from tests.full_disk import no_file_beyond


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


def xid(code: int) -> DeviceEvent:
    return DeviceEvent(at_ms=1, kind=DeviceEventKind.XID, uuid="GPU-a", code=code, message="ö\n")


def codes(log: EventLog) -> list[int | None]:
    return [one.event.code for one in log.unsettled()]


def numbers(log: EventLog) -> list[int]:
    return [one.seq for one in log.unsettled()]


def kept(path: Path, *events: int) -> EventLog:
    log = EventLog(path)
    log.add(xid(code) for code in events)
    assert log.sync() is bool(events)
    return log


def test_events_are_numbered_and_read_back_by_the_next_run(path: Path) -> None:
    first = kept(path, 79, 31)
    again = EventLog(path)
    assert again.unsettled() == first.unsettled()
    assert (numbers(again), codes(again)) == ([1, 2], [79, 31])
    assert again.unsettled()[0].event == xid(79)
    assert again.name == first.name
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_event_is_told_to_nobody_before_it_is_on_disk(path: Path) -> None:
    log = EventLog(path)
    log.add([xid(79)])
    assert log.unsettled() == ()
    assert log.sync()
    assert codes(log) == [79]
    assert not log.sync()


def test_settled_events_are_gone_and_their_numbers_are_never_used_again(path: Path) -> None:
    log = kept(path, 1, 2, 3)
    assert log.settle(2)
    assert not log.settle(2)
    assert (numbers(log), numbers(EventLog(path))) == ([3], [3])
    assert log.settle(3)
    size = path.stat().st_size
    again = kept(path, 4)
    assert (again.name, numbers(again)) == (log.name, [4])
    assert size < 100, "the file doesn't grow with what is settled"


def test_each_log_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert EventLog(tmp_path / "a").name != EventLog(tmp_path / "b").name


def test_a_flood_is_told_in_parts_oldest_first(path: Path) -> None:
    log = kept(path, *range(3000))
    assert codes(log) == list(range(EVENTS_PER_REPORT))
    assert log.settle(numbers(log)[-1])
    assert codes(log)[0] == EVENTS_PER_REPORT


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_costs_itself_only(path: Path, cut: int) -> None:
    kept(path, 1, 2)
    path.write_bytes(path.read_bytes()[:-cut])
    log = EventLog(path)
    assert codes(log) == [1]
    log.add([xid(3)])
    assert log.sync()
    assert codes(EventLog(path)) == [1, 3]
    assert numbers(EventLog(path)) == [1, 2]


def test_a_damaged_line_costs_itself_and_its_number(path: Path) -> None:
    kept(path, 1, 2)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1], b"\x00garbage", b""]))
    log = EventLog(path)
    log.add([xid(3)])
    assert log.sync()
    assert numbers(EventLog(path)) == [1, 3]


@pytest.mark.parametrize("head", [b"", b"[]", b'{"event_log": "x"}', b"\xff"])
def test_without_its_head_the_log_goes_on_under_a_new_name(path: Path, head: bytes) -> None:
    old = kept(path, 1, 2)
    path.write_bytes(b"\n".join([head, *path.read_bytes().split(b"\n")[1:]]))
    log = EventLog(path)
    assert log.name != old.name
    assert codes(log) == [1, 2]
    log.add([xid(3)])
    assert log.sync()
    again = EventLog(path)
    assert (again.name, codes(again), numbers(again)) == (log.name, [1, 2, 3], [1, 2, 3])


def test_an_empty_file_is_a_new_log(path: Path) -> None:
    path.touch()
    log = kept(path, 1)
    assert codes(EventLog(path)) == codes(log) == [1]


@pytest.mark.parametrize("room", [0, 60, 250])
def test_a_full_disk_loses_no_event_while_the_agent_lives(path: Path, room: int) -> None:
    log = kept(path, 1) if room == 250 else EventLog(path)
    already = numbers(log)
    log.add([xid(2), xid(3)])
    with no_file_beyond(room), pytest.raises(OSError, match="too large"):
        log.sync()
    assert numbers(log) == already
    log.add([xid(4)])
    assert log.sync()
    assert codes(log)[-3:] == [2, 3, 4]
    assert EventLog(path).unsettled() == log.unsettled()


def test_what_a_failed_write_left_is_not_read_by_the_next_run(path: Path) -> None:
    log = kept(path, 1)
    log.add([xid(2)])
    with no_file_beyond(path.stat().st_size + 20), pytest.raises(OSError, match="too large"):
        log.sync()
    assert codes(EventLog(path)) == [1]


def test_a_disk_that_is_full_when_events_are_settled_costs_a_repetition(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = kept(path, 1, 2)
    with no_file_beyond(10):
        assert log.settle(1)
    assert "not removed" in capsys.readouterr().out
    assert codes(log) == [2]
    assert codes(EventLog(path)) == [1, 2]
