import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.samples.sample_spool import SampleSpool, Taken
from agent.samples.windows import row_count
from protocol.samples import HostColumns, HostValues, SampleBatch
from tests.full_disk import no_file_beyond

MIB = 1 << 20


def batch(seq: int, *, rows: int = 1, epoch: str = "e") -> SampleBatch:
    host = HostColumns(
        taken_at_ms=[seq * 5000] * rows,
        values=HostValues.model_validate({"load_1m": [0.5] * rows}),
    )
    return SampleBatch(epoch=epoch, seq=seq, host=host)


def seqs(taken: tuple[Taken, ...]) -> list[int]:
    return [one.batch.seq for one in taken]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "samples"


@pytest.fixture
def spool(directory: Path) -> SampleSpool:
    return SampleSpool(directory, most_bytes=MIB)


def sent(spool: SampleSpool, *, backlog: int) -> list[int]:
    """What a service that takes everything gets in one report."""
    taken = spool.take(backlog=backlog)
    spool.settle(taken)
    spool.release()
    return seqs(taken)


def fail(spool: SampleSpool) -> None:
    spool.take(backlog=0)
    spool.release()


def test_a_batch_that_is_taken_at_once_never_touches_the_disk(
    spool: SampleSpool, directory: Path
) -> None:
    for seq in range(1, 10):
        spool.add(batch(seq))
        assert sent(spool, backlog=9) == [seq]
    assert list(directory.iterdir()) == []
    assert sent(spool, backlog=9) == []


def test_the_newest_goes_first_and_with_it_the_granted_number_of_the_oldest(
    spool: SampleSpool,
) -> None:
    for seq in range(1, 7):
        spool.add(batch(seq))
        fail(spool)
    assert sent(spool, backlog=0) == [6]
    spool.add(batch(7))
    assert sent(spool, backlog=2) == [7, 1, 2]
    assert sent(spool, backlog=2) == [3, 4]
    assert sent(spool, backlog=9) == [5]
    assert sent(spool, backlog=9) == []


def test_what_was_not_acknowledged_is_sent_again_under_its_own_name(spool: SampleSpool) -> None:
    spool.add(batch(1))
    first = spool.take(backlog=0)
    spool.release()
    again = spool.take(backlog=0)
    assert [one.batch for one in again] == [one.batch for one in first]


def test_a_batch_that_comes_while_one_is_on_its_way_doubles_and_loses_nothing(
    spool: SampleSpool,
) -> None:
    spool.add(batch(1))
    taken = spool.take(backlog=0)
    spool.add(batch(2))
    spool.add(batch(3))
    spool.settle(taken)
    spool.release()
    assert sent(spool, backlog=9) == [3, 2]
    assert sent(spool, backlog=9) == []


def test_without_a_new_batch_one_of_the_backlog_is_tried(spool: SampleSpool) -> None:
    for seq in (1, 2, 3):
        spool.add(batch(seq))
    spool.close()
    assert sent(spool, backlog=0) == [1]


def test_no_report_has_more_batches_than_asked_for(spool: SampleSpool) -> None:
    for seq in range(1, 10):
        spool.add(batch(seq))
    assert seqs(spool.take(backlog=100, most=3)) == [9, 1, 2]
    spool.release()
    assert seqs(spool.take(backlog=100, most=1)) == [9]


def test_the_next_run_sends_what_the_last_one_could_not(
    spool: SampleSpool, directory: Path
) -> None:
    for seq in (1, 2):
        spool.add(batch(seq, epoch="first"))
    spool.close()
    again = SampleSpool(directory, most_bytes=MIB)
    again.add(batch(1, epoch="second"))
    taken = again.take(backlog=9)
    assert [(one.batch.epoch, one.batch.seq) for one in taken] == [
        ("second", 1),
        ("first", 1),
        ("first", 2),
    ]
    assert taken[1].batch == batch(1, epoch="first")
    assert again.dropped_rows == 0


def test_a_killed_run_loses_at_most_its_newest_batch(spool: SampleSpool, directory: Path) -> None:
    for seq in (1, 2, 3):
        spool.add(batch(seq))
        fail(spool)
    again = SampleSpool(directory, most_bytes=MIB)
    assert sent(again, backlog=9) == [1, 2]


def test_for_want_of_room_the_oldest_rows_are_dropped_and_every_one_is_counted(
    directory: Path,
) -> None:
    spool = SampleSpool(directory, most_bytes=100_000)
    for seq in range(1, 301):
        spool.add(batch(seq, rows=100))
    got: list[int] = []
    while numbers := sent(spool, backlog=100):
        got += numbers
    assert sorted(got) == list(range(301 - len(got), 301))
    assert spool.dropped_rows == 100 * (300 - len(got)) > 0


def test_what_the_service_refuses_is_dropped_and_counted(spool: SampleSpool) -> None:
    spool.add(batch(1, rows=3))
    spool.add(batch(2, rows=4))
    taken = spool.take(backlog=9)
    assert seqs(taken) == [2, 1]
    spool.drop(taken[1:])
    spool.settle(taken[:1])
    spool.release()
    assert spool.dropped_rows == 3
    assert sent(spool, backlog=9) == []


def test_a_batch_of_another_age_of_the_agent_is_dropped_alone(
    spool: SampleSpool, directory: Path
) -> None:
    for seq in (1, 2, 3):
        spool.add(batch(seq))
    spool.close()
    [file] = directory.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    other = SampleSpool(directory / "other", most_bytes=MIB)
    other.add(batch(2, rows=5))
    other.close()
    [foreign] = (directory / "other").iterdir()
    body = foreign.read_bytes().split(b" ", 1)[1].rstrip(b"\n").replace(b"load_1m", b"load_9m")
    lines[1] = b"%08x %s\n" % (zlib.crc32(body), body)
    foreign.unlink()
    file.write_bytes(b"".join(lines))
    again = SampleSpool(directory, most_bytes=MIB)
    assert sent(again, backlog=9) == [1, 3]
    assert again.dropped_rows == 5


def test_on_a_full_disk_a_bounded_number_waits_in_memory_and_the_rest_is_counted(
    spool: SampleSpool, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_file_beyond(0):
        for seq in range(1, 101):
            spool.add(batch(seq, rows=2))
    assert capsys.readouterr().out.count("can't be kept on disk") == 1, "said once"
    taken = spool.take(backlog=0)
    assert seqs(taken) == list(range(100, 100 - len(taken), -1))
    assert spool.dropped_rows == 2 * (100 - len(taken)) > 0
    spool.release()
    spool.add(batch(101, rows=2))
    assert sum(row_count(one.batch) for one in spool.take(backlog=100)) == 2 + 2 * len(taken)


class PlayedService:
    """Stores batches by their names, as a service does."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self.most_bytes = most_bytes
        self.stored: dict[tuple[str, int], int] = {}
        self.dropped = 0
        self.made = 0
        self.run = 0
        self.restart()

    def restart(self) -> None:
        if self.run:
            self.spool.close()
            self.dropped += self.spool.dropped_rows
        self.run += 1
        self.spool = SampleSpool(self.directory, most_bytes=self.most_bytes)

    def act(self, what: str) -> None:
        if what == "add":
            self.made += 1
            self.spool.add(batch(self.made, rows=self.made, epoch=f"run{self.run}"))
            return
        if what == "restart":
            self.restart()
            return
        taken = self.spool.take(backlog=2, most=3)
        if what == "added on its way":
            self.act("add")
        if what != "refused":
            self.stored |= {(t.batch.epoch, t.batch.seq): row_count(t.batch) for t in taken}
        if what not in {"refused", "answer lost"}:
            self.spool.settle(taken)
        self.spool.release()

    def drain(self) -> None:
        while taken := self.spool.take(backlog=100):
            self.stored |= {(t.batch.epoch, t.batch.seq): row_count(t.batch) for t in taken}
            self.spool.settle(taken)
            self.spool.release()
        self.dropped += self.spool.dropped_rows


ACTS = ("add", "add", "taken", "refused", "added on its way", "restart")


@given(acts=st.lists(st.sampled_from((*ACTS, "answer lost")), max_size=60))
@settings(deadline=None)
def test_whatever_happens_every_row_arrives(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    service = PlayedService(tmp_path_factory.mktemp("spool"), most_bytes=MIB)
    for act in acts:
        service.act(act)
    service.drain()
    assert sum(service.stored.values()) == sum(range(service.made + 1))
    assert len(service.stored) == service.made
    assert service.dropped == 0


@given(acts=st.lists(st.sampled_from(ACTS), max_size=60))
@settings(deadline=None)
def test_in_too_little_room_every_row_arrives_or_is_counted(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    service = PlayedService(tmp_path_factory.mktemp("spool"), most_bytes=1500)
    for act in acts:
        service.act(act)
    service.drain()
    assert sum(service.stored.values()) + service.dropped == sum(range(service.made + 1))
