"""Checkpoints of a program that Stowplan runs: made when asked, told of, and never published twice.

::

    run = Training()
    if found := run.latest():
        state = torch.load(found.path)
    for step in range(state["step"], steps):
        ...
        run.step(step + 1, of=steps)
        if run.asked():
            with run.saving(step + 1) as path:
                torch.save(state, path)
            break

One file, standard library only: it may be copied into any project. Without Stowplan it's plain
local checkpointing: nobody asks, and the directory is ``./checkpoints`` unless another is given.
What the files in ``$STOWPLAN_CONTROL`` mean is written in docs/tasks.md, for programs in other
languages.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

LOOK_SECONDS = 0.2
"""How often :meth:`Training.asked` looks at most."""
TELL_SECONDS = 1.0
"""How often :meth:`Training.step` writes at most."""
LOCK_SECONDS = 60.0
"""How long others may hold a directory. It's held for renames, never while state is written."""

_NAME = re.compile(r"g(\d{10})-s(\d{12})-b(\d+)(\.[A-Za-z0-9]+)?", re.ASCII)
_PART = re.compile(r"\.saving-g(\d{10})-s\d{12}-(r\d+|all|old)(\.[A-Za-z0-9]+)?", re.ASCII)
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)?", re.ASCII)

log = logging.getLogger("stowplan.training")


class StaleGenerationError(Exception):
    """A newer attempt of this task has the checkpoint directory: this one may publish no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A checkpoint that is whole and on disk."""

    path: Path
    step: int
    generation: int
    """The attempt that made it; 0 outside of Stowplan."""


class Training:
    """One process of a program that trains. Every rank may have one and call all of it.

    The rank that publishes (global rank 0, or as told) claims the directory for its generation:
    from then on no earlier attempt of the task can publish there, wherever it still runs. Only the
    first process of a replica (local rank 0) writes what the node reads.

    Raises:
        StaleGenerationError: a newer attempt has claimed the directory.
        OSError: the directory can't be made or locked.
        ValueError: an argument, or a variable of the environment, isn't what it has to be.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        keep: int = 2,
        suffix: str = ".pt",
        publishes: bool | None = None,
        signals: Iterable[signal.Signals] = (),
    ) -> None:
        """``directory``: default ``$STOWPLAN_CHECKPOINTS``, else ``$STOWPLAN_ARTIFACTS``.

        ``keep``: how many checkpoints stay, the newest. ``publishes``: whether this rank does. For
        several that do, give each a directory of its own, and call :meth:`done` when all have.
        ``signals``: those that ask for a checkpoint, besides the one that the task chose
        (``checkpoint.ask``). A handler that was there before is still called.
        """
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least the newest checkpoint has to stay")
        if not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"suffix {suffix!r}: a dot and letters or digits, or nothing")
        self.generation = _number("STOWPLAN_GENERATION")
        self.rank = _number("RANK")
        self.publishes = self.rank == 0 if publishes is None else publishes
        self._publishes_alone = self.publishes and publishes is None
        given = os.environ.get("STOWPLAN_CHECKPOINTS") or os.environ.get("STOWPLAN_ARTIFACTS")
        self.directory = Path(given or "checkpoints" if directory is None else directory)
        self._keep = keep
        self._suffix = suffix
        control = os.environ.get("STOWPLAN_CONTROL")
        self._control = Path(control) if control else None
        self._tells = self._control is not None and _number("LOCAL_RANK") == 0
        self._progress: dict[str, float] = {}
        self._told_at = float("-inf")
        self._looked_at = float("-inf")
        self._asked = False
        self._heard = False
        """From its own node, not only from the other ranks."""
        self._acknowledged = False
        self._done = False
        self._unconfirmed: dict[str, float] = {}
        if self.publishes:
            self._claim()
        self._listen({*signals, *_chosen_signals()})

    # What the node is told, and what it asks.

    def step(self, number: int, *, of: int | None = None) -> None:
        """Tell how many steps are done, of how many in all. Cheap enough for every step."""
        self._progress["step"] = number
        if of is not None:
            self._progress["steps"] = of
        if time.monotonic() - self._told_at >= TELL_SECONDS:
            self._tell()

    def asked(self) -> bool:
        """Whether a checkpoint is wanted now, because this attempt is about to be stopped.

        Cheap enough for every step. Once true it stays true, and the node knows that it was
        understood: the grace counts from here. The ranks of a gang are asked at slightly different
        times: which step is the last one they have to agree on (``all_reduce`` with MAX).
        """
        now = time.monotonic()
        if not self._asked and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            self._look()
        if self._asked:
            self.acknowledge()
        return self._asked

    def acknowledge(self) -> None:
        """Say that a checkpoint will be made now: :meth:`asked` does it, where it's true.

        For a rank that the others told first: the next checkpoint is then the answer all the same.
        """
        self._asked = True
        if not self._acknowledged:
            self._acknowledged = True
            self._answer()
            if self._tells and not self._heard:
                # Its node hasn't asked yet, and takes no answer from before; it may do so while
                # this thread is writing the checkpoint.
                threading.Thread(target=self._answer_when_asked, daemon=True).start()

    def done(self) -> None:
        """Say that the checkpoint is complete, on a rank that can't know it by itself.

        Every rank but the one that publishes should, after a barrier: its node waits for it. The
        one that publishes has told its own already.
        """
        self._progress.update(self._unconfirmed)
        self._unconfirmed = {}
        self._tell()
        if self._acknowledged and not self._publishes_alone:
            self._done = True
            self._answer()

    # Checkpoints.

    def latest(self) -> Published | None:
        """The newest whole checkpoint; None when there is none yet."""
        return latest_in(self.directory)

    @contextlib.contextmanager
    def saving(self, step: int, *, shared: bool = False) -> Iterator[Path]:
        """Where to write the state after ``step``, a file or a directory; published at the end.

        A block that raises publishes nothing, and what was published before stays. On a rank that
        doesn't publish, what is written is dropped; spare it that with ``if run.publishes``.
        ``shared``: all ranks get the same path (for sharded state, as torch.distributed.checkpoint
        writes it), and all must have written when the publishing one leaves the block.

        Raises:
            StaleGenerationError: a newer attempt has claimed the directory; nothing was published.
        """
        if not 0 <= step < 10**12:
            raise ValueError(f"step {step} is not in 0..999999999999")
        if not self._asked:
            self._look()
        if self._asked:
            self.acknowledge()
        answers = self._asked  # what is asked from here on, this state is too old for
        started = time.monotonic()
        part = self._part(step, "all" if shared else f"r{self.rank}")
        self.directory.mkdir(parents=True, exist_ok=True)
        if not shared:
            _remove(part)  # of this rank's former life
        try:
            yield part
            if self.publishes:
                self._publish(part, step)
        finally:
            if self.publishes or not shared:
                _remove(part)
        self._unconfirmed = {
            "checkpoint_step": step,
            "checkpoint_at_ms": time.time_ns() // 1_000_000,
            "checkpoint_seconds": round(time.monotonic() - started, 3),
        }
        if self._publishes_alone:
            self._progress.update(self._unconfirmed)
            self._tell()
            if answers:
                self._done = True
                self._answer()

    def _part(self, step: int, whose: str) -> Path:
        name = f".saving-g{self.generation:010d}-s{step:012d}-{whose}{self._suffix}"
        return self.directory / name

    def _publish(self, part: Path, step: int) -> None:
        try:
            size = _sync(part)
        except FileNotFoundError:
            with _locked(self.directory):
                self._refuse_if_stale()  # then it was taken away
            raise FileNotFoundError(
                errno.ENOENT, "nothing was written where the checkpoint belongs", str(part)
            ) from None
        name = f"g{self.generation:010d}-s{step:012d}-b{size}{self._suffix}"
        target = self.directory / name
        with _locked(self.directory):
            self._refuse_if_stale()
            former = self._part(step, "old")
            if target.is_dir():  # the same step again: a directory can't be renamed over
                _remove(former)
                target.rename(former)
            part.replace(target)
            _write(self.directory / "latest", f"{name}\n")
            _sync_directory(self.directory)
            _remove(former)
            kept = 0
            for found in _in_order(self.directory):
                if kept < self._keep and _is_whole(self.directory, found):
                    kept += 1
                else:
                    _remove(self.directory / found)

    def _claim(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with _locked(self.directory):
            if self._refuse_if_stale() < self.generation:
                _write(self.directory / "generation", f"{self.generation}\n")
                _sync_directory(self.directory)
            for entry in list(self.directory.iterdir()):
                left = _PART.fullmatch(entry.name)
                # Not other ranks' of this attempt: they may be at it.
                if left and (
                    int(left[1]) < self.generation or left[2] in {f"r{self.rank}", "old", "all"}
                ):
                    _remove(entry)

    def _refuse_if_stale(self) -> int:
        """The generation that holds the directory, -1 for none. To be asked under the lock."""
        path = self.directory / "generation"
        try:
            text = path.read_text()
        except FileNotFoundError:
            return -1
        if not re.fullmatch(r"\d{1,18}\s*", text, re.ASCII):
            raise ValueError(
                f"{path} holds {text[:40]!r}, no generation: remove it if nothing trains there"
            )
        claimed = int(text)
        if claimed > self.generation:
            raise StaleGenerationError(
                f"{self.directory} belongs to generation {claimed}, this process is of generation "
                f"{self.generation}: it is stale and must not write"
            )
        return claimed

    # The control directory.

    def _listen(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            before = signal.getsignal(number)
            try:
                signal.signal(number, self._rememberer(before))
            except ValueError:
                raise ValueError(
                    f"{number.name} asks for checkpoints, but only the main thread can listen to "
                    "it: make Training() there, or have it ask by file"
                ) from None

    def _rememberer(self, before: Any) -> Callable[[int, FrameType | None], None]:
        def remember(number: int, frame: FrameType | None) -> None:
            self._asked = self._heard = True
            if self._acknowledged:
                self._answer()
            if callable(before) and before is not signal.default_int_handler:
                before(number, frame)

        return remember

    def _look(self) -> None:
        if self._control is not None and (self._control / "checkpoint.asked").exists():
            self._asked = self._heard = True

    def _answer_when_asked(self) -> None:
        while not self._heard:
            time.sleep(LOOK_SECONDS)
            self._look()
        self._answer()

    def _answer(self) -> None:
        if self._tells:
            self._to_node("checkpoint.acknowledged", "")
            if self._done:
                self._to_node("checkpoint.done", "")

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        if self._tells and self._progress:
            self._to_node("progress.json", json.dumps(self._progress))

    def _to_node(self, name: str, text: str) -> None:
        assert self._control is not None  # noqa: S101  only where there's somebody to tell
        try:
            fresh = self._control / f".{name}.{threading.get_ident()}.new"
            fresh.write_text(text)
            fresh.replace(self._control / name)
        except OSError as error:  # a full disk: no reason to end a training
            log.warning("the node can't be told (%s): %s", name, error)


def latest_in(directory: str | os.PathLike[str]) -> Published | None:
    """The newest whole checkpoint of a directory, for those who only read; None without any.

    The highest generation's, of its own the one that ``latest`` names. One that isn't as long as
    its name says (a disk or a copy failed) is passed over. With ``keep`` checkpoints the one found
    is there until so many more are published.
    """
    path = Path(directory)
    while True:
        names = _in_order(path)
        for name in names:
            if (match := _NAME.fullmatch(name)) and _is_whole(path, name):
                return Published(path=path / name, step=int(match[2]), generation=int(match[1]))
        if not set(names) - set(_in_order(path)):  # else newer ones have taken their place
            return None


def _is_whole(directory: Path, name: str) -> bool:
    match = _NAME.fullmatch(name)
    try:
        return match is not None and _size(directory / name) == int(match[3])
    except OSError:
        return False


def _in_order(directory: Path) -> list[str]:
    """Names of published checkpoints, newest first."""
    try:
        names = [entry.name for entry in directory.iterdir() if _NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []
    try:
        pointed = (directory / "latest").read_text().strip()
    except (OSError, UnicodeDecodeError):
        pointed = ""

    def age(name: str) -> tuple[str, bool, int, str]:
        try:
            changed = (directory / name).stat().st_mtime_ns
        except OSError:
            changed = 0
        return name.partition("-")[0], name == pointed, changed, name

    return sorted(names, key=age, reverse=True)


def _chosen_signals() -> list[signal.Signals]:
    """Those by which the task wants to be asked; none when it's a file, or nothing at all."""
    name = os.environ.get("STOWPLAN_CHECKPOINT_ASK", "")
    return [signal.Signals[name]] if name in signal.Signals.__members__ else []


def _number(variable: str) -> int:
    text = os.environ.get(variable) or "0"
    if not re.fullmatch(r"\d{1,10}", text, re.ASCII):
        raise ValueError(f"{variable} is {text!r}, no whole number")
    return int(text)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock(lock, directory)
        try:
            yield
        finally:
            # Not only closed: a process that was forked meanwhile has it open too.
            fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        os.close(lock)


def _lock(lock: int, directory: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    pause = 0.0005
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{directory}/.lock has been held for {LOCK_SECONDS:g} s by another process"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: this file system has no locks (flock), without which an older "
                "attempt can't be kept from publishing; mount it with them or use another",
                str(directory),
            ) from None
        else:
            return


def _write(path: Path, text: str) -> None:
    """Whole or not at all; its name is durable once the directory is synced."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync(path: Path) -> int:
    """Force a file, or all of a directory, to disk; its size in bytes."""
    if not path.is_dir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return _size(path)
    for folder, _, names in os.walk(path):
        for name in names:
            _sync(Path(folder, name))
        _sync_directory(Path(folder))
    return _size(path)


def _size(path: Path) -> int:
    """In bytes; of a directory, of all files in it."""
    if not path.is_dir():
        return path.stat().st_size
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(file.stat().st_size for file in files)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
