"""Checkpoints on disk: whole or not there, and none of an attempt that was overtaken."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import training
from client.training import StaleGenerationError, Training, latest_in
from tests.training import MODULE, ask, at_generation, control, names, outside, save, told

__all__ = ["at_generation", "control", "outside"]


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
