from pathlib import Path

import pytest

from agent.samples.segments import Record, Segments
from tests.full_disk import no_file_beyond

MIB = 1 << 20
HOUR_MS = 3_600_000


class Queue:
    """Segments in a directory, and what they gave up."""

    def __init__(self, directory: Path, most_bytes: int = MIB, most_age_ms: int = HOUR_MS) -> None:
        self.directory = directory
        self.lost = 0
        self.segments = Segments(
            directory, most_bytes=most_bytes, most_age_ms=most_age_ms, give_up=self._give_up
        )

    def _give_up(self, rows: int) -> None:
        self.lost += rows

    def put(self, number: int, *, rows: int = 1, at_ms: int = 0, payload_bytes: int = 0) -> None:
        payload = b"%d %s" % (number, b"x" * payload_bytes)
        self.segments.append(Record(rows=rows, taken_at_ms=at_ms, payload=payload))

    def get(self, count: int = 1000) -> list[int]:
        """Take the oldest out, and say which they were."""
        lent = self.segments.lend(count)
        self.segments.remove(lent)
        self.segments.give_back()
        return [int(record.payload.split(b" ")[0]) for record in lent]

    def drain(self) -> list[int]:
        numbers: list[int] = []
        while got := self.get(7):
            numbers += got
        return numbers

    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "samples")


def test_records_come_out_in_the_order_in_which_they_went_in(queue: Queue) -> None:
    for number in range(300):
        queue.put(number, payload_bytes=2000)
    assert len(queue.files()) > 1
    assert queue.drain() == list(range(300))
    assert (queue.files(), queue.segments.bytes, queue.lost) == ([], 0, 0)


def test_records_survive_a_restart_and_new_ones_come_after_them(
    queue: Queue, tmp_path: Path
) -> None:
    queue.put(1, rows=9, at_ms=5)
    queue.put(2)
    again = Queue(tmp_path / "samples")
    again.put(3)
    lent = again.segments.lend(1)
    assert (lent[0].rows, lent[0].taken_at_ms) == (9, 5)
    assert again.drain() == [1, 2, 3]


def test_what_was_lent_and_given_back_comes_again(queue: Queue) -> None:
    for number in range(4):
        queue.put(number)
    lent = queue.segments.lend(3)
    queue.segments.remove(lent[1:2])
    queue.segments.give_back()
    assert queue.drain() == [0, 2, 3]


def test_what_comes_while_some_are_lent_is_neither_lost_nor_lent_with_them(queue: Queue) -> None:
    queue.put(1)
    lent = queue.segments.lend(10)
    queue.put(2)
    queue.segments.remove(lent)
    queue.segments.give_back()
    assert queue.drain() == [2]


def test_for_want_of_room_the_oldest_are_given_up_and_counted(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "samples", most_bytes=100_000)
    for number in range(500):
        queue.put(number, rows=3, payload_bytes=1000)
        assert queue.segments.bytes <= 100_000
    left = queue.drain()
    assert left == list(range(500 - len(left), 500))
    assert len(left) > 80, "at most an eighth is given up at a time"
    assert queue.lost == 3 * (500 - len(left))


def test_what_is_lent_is_not_given_up_under_the_senders_hands(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "samples", most_bytes=10_000)
    queue.put(0, payload_bytes=1000)
    lent = queue.segments.lend(1)
    for number in range(1, 30):
        queue.put(number, payload_bytes=1000)
    queue.segments.remove(lent)
    queue.segments.give_back()
    assert queue.lost == 0
    queue.put(30, payload_bytes=1000)
    left = queue.drain()
    assert left == list(range(31 - len(left), 31))
    assert queue.lost == 30 - len(left)
    assert sum(1 for _ in left) < 10


def test_what_is_too_old_is_given_up_when_newer_comes(tmp_path: Path) -> None:
    old = Queue(tmp_path / "samples")
    old.put(1, rows=2, at_ms=0)
    queue = Queue(tmp_path / "samples")
    queue.put(2, at_ms=HOUR_MS)
    assert queue.lost == 0
    queue.put(3, at_ms=HOUR_MS + 1)
    assert queue.lost == 2
    assert queue.drain() == [2, 3]


@pytest.mark.parametrize("cut", [1, 2, 10, 25])
def test_a_torn_last_record_costs_itself_only(queue: Queue, tmp_path: Path, cut: int) -> None:
    for number in range(3):
        queue.put(number, payload_bytes=20)
    [file] = queue.files()
    file.write_bytes(file.read_bytes()[:-cut])
    again = Queue(tmp_path / "samples")
    again.put(9)
    assert again.drain() == [0, 1, 9]


def test_a_bit_that_fell_over_costs_its_record_only(queue: Queue, tmp_path: Path) -> None:
    for number in range(3):
        queue.put(number, payload_bytes=20)
    [file] = queue.files()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert Queue(tmp_path / "samples").drain() == [0, 2]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff" * 5000, b"zz 1 2 3\n", b"00000000 \n"])
def test_a_damaged_file_costs_itself_only(queue: Queue, tmp_path: Path, content: bytes) -> None:
    queue.put(1)
    [file] = queue.files()
    file.write_bytes(content)
    again = Queue(tmp_path / "samples")
    again.put(2)
    assert again.drain() == [2]
    assert again.files() == []


def test_a_file_that_went_away_costs_itself_only(queue: Queue, tmp_path: Path) -> None:
    queue.put(1)
    again = Queue(tmp_path / "samples")
    queue.files()[0].unlink()
    again.put(2)
    assert again.drain() == [2]


def test_files_that_are_not_ours_are_left_alone(queue: Queue, tmp_path: Path) -> None:
    stranger = queue.directory / "notes.segment"
    stranger.write_text("mine")
    again = Queue(tmp_path / "samples")
    again.put(1)
    assert again.drain() == [1]
    assert stranger.read_text() == "mine"


def test_a_full_disk_refuses_a_record_whole_and_takes_it_later(queue: Queue) -> None:
    queue.put(1, payload_bytes=100)
    with no_file_beyond(150), pytest.raises(OSError, match="too large"):
        queue.put(2, payload_bytes=100)
    queue.put(3, payload_bytes=100)
    assert queue.drain() == [1, 3]
    assert queue.lost == 0


def test_nobody_else_may_read_what_is_kept(queue: Queue) -> None:
    queue.put(1)
    [file] = queue.files()
    assert file.stat().st_mode & 0o777 == 0o600
    assert queue.directory.stat().st_mode & 0o777 == 0o700
