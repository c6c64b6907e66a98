"""What an attempt is asked, what it answers and tells, and which of its ranks does."""

import contextlib
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from client.training import Training
from tests.training import ask, control, outside, progress, save, told
from tests.waiting import wait_for

__all__ = ["control", "outside"]

# Asked, and telling.


def test_a_program_that_is_asked_saves_and_says_so(control: Path, tmp_path: Path) -> None:
    run = Training(tmp_path / "c")
    assert not run.asked()
    assert told(control) == set()
    ask(control)
    wait_for(run.asked, "it was asked")
    assert told(control) == {"checkpoint.asked", "checkpoint.acknowledged"}
    save(run, 5)
    assert told(control) >= {"checkpoint.done"}
    assert run.asked(), "it stays asked"


def test_a_look_is_cheap(control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Training(tmp_path / "c")
    looks = []
    monkeypatch.setattr(run, "_look", lambda: looks.append(1))
    for _ in range(1000):
        run.asked()
    assert len(looks) < 50


def test_a_checkpoint_that_was_begun_before_the_question_is_no_answer(
    control: Path, tmp_path: Path
) -> None:
    run = Training(tmp_path / "c")
    with run.saving(5) as path:
        path.write_text("state")
        ask(control)
    assert "checkpoint.done" not in told(control)
    wait_for(run.asked, "it was asked")
    save(run, 6)
    assert "checkpoint.done" in told(control)


def test_a_checkpoint_that_happens_to_begin_after_the_question_is_the_answer(
    control: Path, tmp_path: Path
) -> None:
    run = Training(tmp_path / "c")
    assert not run.asked()
    ask(control)
    save(run, 5)
    assert told(control) >= {"checkpoint.acknowledged", "checkpoint.done"}


def test_a_checkpoint_that_failed_is_not_called_done(control: Path, tmp_path: Path) -> None:
    run = Training(tmp_path / "c")
    ask(control)
    with contextlib.suppress(RuntimeError), run.saving(5):
        raise RuntimeError
    assert told(control) == {"checkpoint.asked", "checkpoint.acknowledged"}


def test_steps_and_checkpoints_are_told(control: Path, tmp_path: Path) -> None:
    run = Training(tmp_path / "c")
    run.step(1, of=10)
    assert progress(control) == {"step": 1, "steps": 10}
    for step in range(2, 8):
        run.step(step, of=10)
    save(run, 7)
    found = progress(control)
    assert (found["step"], found["steps"], found["checkpoint_step"]) == (7, 10, 7)
    assert found["checkpoint_at_ms"] > 1_700_000_000_000
    assert 0 <= found["checkpoint_seconds"] < 60


def test_a_node_that_cannot_be_told_ends_no_training(
    control: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Training(tmp_path / "c")
    control.rmdir()
    with caplog.at_level(logging.WARNING):
        run.step(1)
        run.acknowledge()
        save(run, 1)
    assert "the node can't be told" in caplog.text
    assert run.latest() is not None


# Ranks.


@pytest.mark.parametrize(("rank", "local"), [(1, 1), (2, 0)])
def test_other_ranks_publish_nothing(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int, local: int
) -> None:
    lead = Training(tmp_path / "c")
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("LOCAL_RANK", str(local))
    run = Training(tmp_path / "c")
    assert not run.publishes
    save(run, 4)
    assert lead.latest() is None
    assert [entry.name for entry in lead.directory.glob(".*")] == [".lock"]


def test_the_first_process_of_another_replica_tells_its_node_when_it_knows(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    run = Training(tmp_path / "c")
    ask(control)
    wait_for(run.asked, "it was asked")
    save(run, 4)
    assert "checkpoint.done" not in told(control), "rank 0 may be writing still"
    assert not (control / "progress.json").exists()
    run.done()
    assert "checkpoint.done" in told(control)
    assert progress(control)["checkpoint_step"] == 4


def test_only_the_first_process_of_a_replica_tells(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = Training(tmp_path / "c")
    ask(control)
    wait_for(run.asked, "every rank sees that it's asked")
    run.step(3)
    save(run, 4)
    run.done()
    assert told(control) == {"checkpoint.asked"}


def test_a_rank_that_the_others_told_first_answers_its_own_node_too(
    control: Path, tmp_path: Path
) -> None:
    run = Training(tmp_path / "c")
    run.acknowledge()
    save(run, 4)
    # As a node does: what was said before it asked is forgotten.
    for name in ("checkpoint.acknowledged", "checkpoint.done"):
        (control / name).unlink()
    ask(control)
    wait_for(lambda: "checkpoint.done" in told(control), "its node knows that all is saved")
    assert "checkpoint.acknowledged" in told(control)


def test_ranks_that_share_a_checkpoint_write_to_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead = Training(tmp_path)
    monkeypatch.setenv("RANK", "1")
    other = Training(tmp_path)
    with lead.saving(4, shared=True) as path:
        with other.saving(4, shared=True) as same:
            assert same == path
            same.mkdir()
            (same / "1").write_text("shard 1")
        (path / "0").write_text("shard 0")
    found = lead.latest()
    assert found is not None
    assert sorted(entry.name for entry in found.path.iterdir()) == ["0", "1"]


def test_ranks_that_publish_each_their_own_say_together_that_it_is_done(
    control: Path, tmp_path: Path
) -> None:
    run = Training(tmp_path / "c", publishes=True)
    ask(control)
    save(run, 4)
    assert "checkpoint.done" not in told(control)
    run.done()
    assert "checkpoint.done" in told(control)


# Signals.


@pytest.fixture
def _signals_as_before() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_before")
def test_the_signal_that_the_task_chose_asks(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    monkeypatch.setenv("STOWPLAN_CHECKPOINT_ASK", "SIGUSR1")
    run = Training(tmp_path / "c")
    assert not run.asked()
    signal.raise_signal(signal.SIGUSR1)
    assert run.asked()
    assert heard == [signal.SIGUSR1], "who listened before still hears it"
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    save(run, 1)
    assert told(control) >= {"checkpoint.acknowledged", "checkpoint.done"}


@pytest.mark.usefixtures("_signals_as_before")
def test_a_program_may_listen_to_more_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOWPLAN_CHECKPOINT_ASK", "SIGUSR1")
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        run = Training(tmp_path, signals=[signal.SIGUSR2])
        assert not run.asked()
        signal.raise_signal(number)
        assert run.asked()


@pytest.mark.usefixtures("_signals_as_before")
def test_no_signal_is_taken_unless_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    Training(tmp_path)
    monkeypatch.setenv("STOWPLAN_CHECKPOINT_ASK", "file")
    Training(tmp_path)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_a_thread_that_cannot_listen_says_so(tmp_path: Path) -> None:
    faults: list[str] = []

    def make() -> None:
        try:
            Training(tmp_path, signals=[signal.SIGUSR2])
        except ValueError as error:
            faults.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert "only the main thread" in faults[0]
