"""Checkpoints: when they're asked for, what is told of them, and that none is published twice."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import training
from client.training import StaleGenerationError, Training, latest_in
from tests.waiting import wait_for

MODULE = Path(training.__file__)


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("STOWPLAN_") or name in {"RANK", "LOCAL_RANK", "WORLD_SIZE"}:
            monkeypatch.delenv(name)


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control directory, as a node makes it for an attempt."""
    path = tmp_path / "control"
    path.mkdir()
    monkeypatch.setenv("STOWPLAN_CONTROL", str(path))
    return path


@pytest.fixture
def at_generation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Training]:
    """One attempt's helper on the directory that all share."""

    def make(generation: int, **about: Any) -> Training:
        monkeypatch.setenv("STOWPLAN_GENERATION", str(generation))
        return Training(tmp_path / "checkpoints", **about)

    return make


def save(run: Training, step: int, content: str = "state", **how: Any) -> None:
    with run.saving(step, **how) as path:
        path.write_text(content)


def names(run: Training) -> list[str]:
    return sorted(entry.name for entry in run.directory.iterdir() if entry.name[0] != ".")


def ask(control: Path) -> None:
    (control / "checkpoint.asked").touch()


def told(control: Path) -> set[str]:
    return {entry.name for entry in control.iterdir()}


def progress(control: Path) -> dict[str, Any]:
    return json.loads((control / "progress.json").read_text())


# Alone.


def test_outside_of_stowplan_it_is_plain_local_checkpointing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Training()
    assert run.latest() is None
    run.step(1, of=3)
    assert not run.asked()
    save(run, 1, "one")
    found = run.latest()
    assert found is not None
    assert (found.path.read_text(), found.step, found.generation) == ("one", 1, 0)
    assert found.path.parent == Path("checkpoints")
    assert (tmp_path / "checkpoints" / "latest").read_text() == f"{found.path.name}\n"


def test_the_module_stands_alone(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import training;"
        "run = training.Training(sys.argv[2])\n"
        "with run.saving(5) as path: path.write_text('x')\n"
        "print(run.latest().step)"
    )
    (tmp_path / "training.py").write_bytes(MODULE.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(tmp_path), str(tmp_path / "c")],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"5\n"), done.stderr


def test_importing_it_loads_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, client.training;"
        "print([n for n in sys.modules if n.split('.')[0] not in sys.stdlib_module_names])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, check=False,
                          cwd=MODULE.parent.parent)  # fmt: skip
    assert done.stdout.decode() == "['__main__', 'client', 'client.training']\n", done.stderr


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({}, "checkpoints"),
        ({"STOWPLAN_ARTIFACTS": "a"}, "a"),
        ({"STOWPLAN_ARTIFACTS": "a", "STOWPLAN_CHECKPOINTS": "c"}, "c"),
    ],
)
def test_the_directory_is_the_one_told_or_the_tasks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], directory: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Training().directory == Path(directory)
    assert Training("d").directory == Path("d")


@pytest.mark.parametrize(
    ("environment", "about", "fault"),
    [
        ({"STOWPLAN_GENERATION": "two"}, {}, "STOWPLAN_GENERATION is 'two'"),
        ({"RANK": "-1"}, {}, "RANK is '-1'"),
        ({}, {"keep": 0}, "keep is 0"),
        ({}, {"suffix": "/pt"}, "suffix '/pt'"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    about: dict[str, Any],
    fault: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=fault):
        Training(tmp_path, **about)


@pytest.mark.parametrize("step", [-1, 10**12])
def test_a_step_that_no_name_can_hold_is_refused(tmp_path: Path, step: int) -> None:
    with pytest.raises(ValueError, match="step"):
        save(Training(tmp_path), step)


# Saving.


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = Training(tmp_path, keep=3)
    for step in range(1, 7):
        save(run, step)
    steps = [int(name.split("-s")[1][:12]) for name in names(run) if name.startswith("g0")]
    assert steps == [4, 5, 6]


def test_one_that_is_torn_takes_no_place_among_those_kept(tmp_path: Path) -> None:
    run = Training(tmp_path, keep=2)
    save(run, 1)
    for step in (2, 3):
        save(run, step)
        found = run.latest()
        assert found is not None
        os.truncate(found.path, 1)
    found = run.latest()
    assert found is not None
    assert found.step == 1


def test_a_run_that_begins_anew_publishes_smaller_steps(tmp_path: Path) -> None:
    save(Training(tmp_path), 500)
    save(Training(tmp_path), 3)
    found = latest_in(tmp_path)
    assert found is not None
    assert found.step == 3


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    run = Training(tmp_path)
    for content in ("one", "two"):
        save(run, 4, content)
        found = run.latest()
        assert found is not None
        assert found.path.read_text() == content
    assert len([name for name in names(run) if name.startswith("g0")]) == 1


def test_a_checkpoint_may_be_a_directory(tmp_path: Path) -> None:
    run = Training(tmp_path, suffix="")
    for words in ("one", "two", "six"):  # of one length: the same name
        with run.saving(4) as path:
            (path / "shards").mkdir(parents=True)
            (path / "shards" / "0").write_text(words)
    found = run.latest()
    assert found is not None
    assert (found.path / "shards" / "0").read_text() == "six"
    assert names(run) == [found.path.name, "generation", "latest"]
    assert [entry.name for entry in tmp_path.glob(".*")] == [".lock"]


def test_a_block_that_fails_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    run = Training(tmp_path)
    save(run, 1, "one")

    def fail() -> None:
        with run.saving(2) as path:
            path.write_text("half")
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        fail()
    found = run.latest()
    assert found is not None
    assert found.step == 1
    assert [entry.name for entry in tmp_path.glob(".*")] == [".lock"]


def test_a_block_that_writes_nothing_is_told_so(tmp_path: Path) -> None:
    run = Training(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing was written"), run.saving(2):
        pass
    assert run.latest() is None


@pytest.mark.parametrize("fault", ["cut", "longer", "gone", "no pointer", "strange pointer"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(tmp_path: Path, fault: str) -> None:
    run = Training(tmp_path)
    for step in (1, 2):
        save(run, step, f"state {step}")
    newest = latest_in(tmp_path)
    assert newest is not None
    match fault:
        case "cut":
            os.truncate(newest.path, 3)
        case "longer":
            newest.path.write_text("state 2, and more")
        case "gone":
            newest.path.unlink()
        case "no pointer":
            (tmp_path / "latest").unlink()
        case _:
            (tmp_path / "latest").write_bytes(b"\xff../../etc/passwd\n")
    found = latest_in(tmp_path)
    assert found is not None
    assert found.path.read_text() == f"state {found.step}"
    assert found.step == (1 if fault in {"cut", "longer", "gone"} else 2)


def test_of_a_directory_that_is_not_there_nothing_is_the_latest(tmp_path: Path) -> None:
    assert latest_in(tmp_path / "nowhere") is None


# Generations.


def test_an_attempt_goes_on_from_the_one_before(at_generation: Callable[..., Training]) -> None:
    save(at_generation(1), 7, "seven")
    run = at_generation(2)
    found = run.latest()
    assert found is not None
    assert (found.step, found.generation, found.path.read_text()) == (7, 1, "seven")


def test_an_older_attempt_may_not_even_begin(at_generation: Callable[..., Training]) -> None:
    at_generation(2)
    with pytest.raises(StaleGenerationError, match=r"to generation 2, .* of generation 1"):
        at_generation(1)


def test_an_attempt_that_was_overtaken_publishes_nothing(
    at_generation: Callable[..., Training], control: Path
) -> None:
    zombie = at_generation(1)
    save(zombie, 7)
    run = at_generation(2)
    before = names(run)
    ask(control)
    with pytest.raises(StaleGenerationError):
        save(zombie, 8)
    assert names(run) == before
    assert "checkpoint.done" not in told(control)
    assert [entry.name for entry in run.directory.glob(".*")] == [".lock"]


def test_an_attempt_is_overtaken_while_it_writes(at_generation: Callable[..., Training]) -> None:
    zombie = at_generation(1)
    save(zombie, 7)

    def write_slowly() -> None:
        with zombie.saving(8) as path:
            path.write_text("of the old attempt")
            at_generation(2)  # it doesn't wait for the one that writes, and takes its file away

    with pytest.raises(StaleGenerationError):
        write_slowly()
    found = latest_in(zombie.directory)
    assert found is not None
    assert found.step == 7


def test_a_newer_attempts_checkpoint_is_the_latest_however_few_its_steps(
    at_generation: Callable[..., Training],
) -> None:
    save(at_generation(1), 900)
    run = at_generation(2)
    save(run, 3)
    found = run.latest()
    assert found is not None
    assert (found.step, found.generation) == (3, 2)


def test_a_stale_checkpoint_that_got_past_broken_locks_is_not_the_latest(
    at_generation: Callable[..., Training],
) -> None:
    run = at_generation(2)
    save(run, 3)
    name = "g0000000001-s000000000900-b5.pt"
    (run.directory / name).write_text("state")
    (run.directory / "latest").write_text(f"{name}\n")
    found = run.latest()
    assert found is not None
    assert found.generation == 2


def test_what_an_earlier_attempt_left_half_written_is_removed(
    at_generation: Callable[..., Training],
) -> None:
    first = at_generation(1)
    left = first.directory / ".saving-g0000000001-s000000000009-r0.pt"
    left.write_text("half")
    own = first.directory / "notes.txt"
    own.write_text("of somebody")
    at_generation(2)
    assert not left.exists()
    assert own.exists()


def test_a_generation_that_is_none_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "generation").write_text("seven\n")
    with pytest.raises(ValueError, match=r"holds 'seven.*remove it if nothing"):
        Training(tmp_path)


def test_a_directory_that_stays_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Training(tmp_path)
    monkeypatch.setattr(training, "LOCK_SECONDS", 0.05)
    with training._locked(tmp_path), pytest.raises(TimeoutError, match=r"\.lock has been held"):
        save(run, 1)


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


# Many processes.


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """Thousands of files that needn't reach a disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


RACE = """
import os, random, sys, time
sys.path.insert(0, sys.argv[1])
import training
folder, tries, seed = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
choose = random.Random(seed)


def attempt(generation, work):
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.environ["STOWPLAN_GENERATION"] = str(generation)
        code = work()
    finally:
        os._exit(code)


def publish(run, step):
    with run.saving(step) as path:
        path.write_text(f"{run.generation} {step}")


def own(path, generation):
    return {name for name in os.listdir(path) if name.startswith(f"g{generation:010d}-")}


fenced = 0
for number in range(tries):
    path = os.path.join(folder, str(number))
    begun, begin = os.pipe()
    pause = choose.uniform(0, 0.002)

    def older():
        run = training.Training(path)
        os.write(begin, b"x")
        step = 0
        try:
            while True:
                step += 1
                publish(run, step)
        except training.StaleGenerationError:
            return 7

    def newer():
        os.read(begun, 1)
        time.sleep(pause)
        run = training.Training(path)
        at_claim = own(path, 1)
        publish(run, 1)
        later = own(path, 1)
        found = training.latest_in(path)
        return 0 if later <= at_claim and found.generation == 2 else 1

    pids = [attempt(1, older), attempt(2, newer)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [7, 0], (number, codes)
    found = training.latest_in(path)
    assert (found.generation, found.step) == (2, 1), (number, found)
    assert found.path.read_text() == "2 1"
    assert open(os.path.join(path, "latest")).read().startswith("g0000000002-")
    fenced += bool(own(path, 1))
    os.close(begun)
    os.close(begin)
print(fenced)
"""


def test_of_two_attempts_that_publish_at_once_the_older_never_wins(
    tmp_path: Path, in_memory: Path
) -> None:
    script = tmp_path / "race.py"
    script.write_text(RACE)
    (tmp_path / "training.py").write_bytes(MODULE.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(tmp_path), str(in_memory), "1000", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200, "in too few tries the older one had published anything"


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import training
run = training.Training(sys.argv[2])
found = run.latest()
step = found.step if found else 0
while True:
    step += 1
    with run.saving(step) as path:
        with path.open("w") as file:
            for _ in range(200):
                file.write(f"{step}\\n" * 20)
                file.flush()
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    (tmp_path / "training.py").write_bytes(MODULE.read_bytes())
    folder, reached = tmp_path / "c", 0
    torn = 0
    for life in range(1, 31):
        with subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(tmp_path), str(folder)],
            stdout=subprocess.PIPE,
            env={"STOWPLAN_GENERATION": str(life)},
            text=True,
        ) as program:
            assert program.stdout is not None
            for _ in range(1 + life % 3):
                reached = int(program.stdout.readline())
            threading.Event().wait(0.0004 * (life % 10))  # the moment is the point of it
            program.kill()
        torn += any(folder.glob(".saving-*"))
        found = latest_in(folder)
        assert found is not None
        assert found.step >= reached
        assert found.path.read_text() == f"{found.step}\n" * 4000
        reached = found.step
    assert torn > 5, "it was hardly ever killed while it wrote"
