"""What the agent keeps on disk, so that it may be killed at any point.

One directory an allocation, with the lock that allows one running copy of it, and one within for
each generation::

    STATE_DIR/agent.lock  token  lease.json
    STATE_DIR/events.log            see :mod:`agent.samples.event_log`
    STATE_DIR/samples/              see :mod:`agent.samples.sample_spool`
    STATE_DIR/artifacts/TASK/       what the task wants to keep; never removed by us
                                    (elsewhere with ``artifacts_dir``)
    STATE_DIR/allocations/ID/lock
    STATE_DIR/allocations/ID/GENERATION/intent.json running.json stop.json exit.json output.log
    STATE_DIR/allocations/ID/GENERATION/control/    the program's and the node's word to each other
"""

import fcntl
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.confining.accounts import Account
from agent.events import Key
from agent.files import sync_directory, write_whole
from agent.processes import Identity
from protocol.desired import DesiredAllocation, Launch, StopCause


class StateDirBusyError(Exception):
    """Another agent uses this state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a shim is to run, complete: written before anything is started."""

    allocation: DesiredAllocation
    port: int
    argv: tuple[str, ...]
    env: dict[str, str]
    working_dir: str
    confinement: dict[str, Any] = field(default_factory=dict)
    """What it is held to, as the shim reads it (:mod:`agent.confining.confinement`)."""
    baseline_memory_mib: dict[str, int | None] = field(default_factory=dict)
    """In use on each of its devices before its start: what is to be come back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Who runs: the shim and the program's main process."""

    shim: Identity
    main: Identity
    started_at_ms: int


class Spool:
    """The state directory of one agent. It belongs to one agent at a time.

    ``owner``: the account of the tasks, where it isn't the agent's own. It may pass through the
    directories above what is its own, and see nothing else.

    Raises:
        StateDirBusyError: another agent holds it.
        OSError: it can't be made or written.
    """

    def __init__(
        self, state_dir: Path, *, artifacts_dir: Path | None = None, owner: Account | None = None
    ) -> None:
        self.root = state_dir
        self._owner = owner
        self._allocations = state_dir / "allocations"
        self._artifacts_dir = artifacts_dir
        self._lease = state_dir.absolute() / "lease.json"
        self._allocations.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._let_pass(state_dir, self._allocations)
        (state_dir / "samples").mkdir(exist_ok=True, mode=0o700)
        (state_dir / "samples").chmod(0o700)
        self._lock = os.open(state_dir / "agent.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateDirBusyError(
                f"another agent uses {state_dir}: give this one another --state-dir"
            ) from None

    def close(self) -> None:
        os.close(self._lock)

    # The node as a whole.

    def token(self) -> str | None:
        """The node's own token, once it has joined."""
        with suppress(FileNotFoundError):
            return (self.root / "token").read_text().strip() or None
        return None

    def keep_token(self, token: str) -> None:
        write_whole(self.root / "token", token.encode())

    def lease_until(self, boot_id: str) -> float | None:
        """The lease's end on this boot's clock, as a run of the agent before this one knew it."""
        with suppress(FileNotFoundError, ValueError, KeyError):
            form = json.loads(self._lease.read_text())
            if form["boot_id"] == boot_id:
                return float(form["until_seconds"])
        return None

    def keep_lease(self, boot_id: str, until_seconds: float) -> None:
        # Not forced to disk: it is of use to this boot only, and a crash of the machine ends the
        # boot.
        form = json.dumps({"boot_id": boot_id, "until_seconds": until_seconds})
        write_whole(self._lease, form.encode(), durable=False)

    def artifacts(self, task: str) -> Path:
        """Where a task's attempts on this node keep what they make."""
        if self._artifacts_dir is not None:
            self._artifacts_dir.mkdir(parents=True, exist_ok=True)
            return self._own(self._artifacts_dir / task, mode=0o755)  # others look there, too
        artifacts = self.root / "artifacts"
        artifacts.mkdir(exist_ok=True, mode=0o700)
        self._let_pass(artifacts)
        return self._own(artifacts / task, mode=0o700)

    # One attempt of one allocation.

    def directory(self, key: Key) -> Path:
        return self._allocations / key.id / str(key.generation)

    def control(self, key: Key) -> Path:
        """Where an attempt's program and its node leave each other word: the program's own."""
        return self.directory(key) / "control"

    def work(self, key: Key) -> Path:
        """Where an attempt begins that names no directory: its own, and gone with it."""
        self._make(key)
        return self._own(self.directory(key) / "work", mode=0o700)

    def attempts(self) -> list[Key]:
        """All attempts on disk, in order."""
        return sorted(
            Key(id=attempt.parent.name, generation=int(attempt.name))
            for attempt in self._allocations.glob("*/*")
            if attempt.name.isdigit()
        )

    def keep_intent(self, key: Key, intent: Intent) -> None:
        directory = self._make(key)
        self.control(key).mkdir(exist_ok=True, mode=0o700)
        self._own(self.ranks(key), mode=0o700)
        write_whole(
            directory / "intent.json",
            json.dumps(
                {
                    "allocation": intent.allocation.model_dump(mode="json"),
                    "port": intent.port,
                    "argv": list(intent.argv),
                    "env": intent.env,
                    "working_dir": intent.working_dir,
                    "confinement": intent.confinement,
                    "baseline_memory_mib": intent.baseline_memory_mib,
                    "stop": _sequence(intent.allocation.launch),
                    "on_lease_lost": intent.allocation.launch.on_lease_lost,
                    "lease": str(self._lease),
                }
            ).encode(),
        )
        for parent in (directory.parent, self._allocations):
            sync_directory(parent)

    def intent(self, key: Key) -> Intent | None:
        form = self._form(key, "intent.json")
        if form is None:
            return None
        return Intent(
            allocation=DesiredAllocation.model_validate_json(json.dumps(form["allocation"])),
            port=form["port"],
            argv=tuple(form["argv"]),
            env=form["env"],
            working_dir=form["working_dir"],
            confinement=form.get("confinement", {}),
            baseline_memory_mib=form.get("baseline_memory_mib", {}),
        )

    def running(self, key: Key) -> Running | None:
        form = self._form(key, "running.json")
        if form is None:
            return None
        boot_id = form["boot_id"]
        return Running(
            shim=Identity(
                pid=form["shim_pid"], start_ticks=form["shim_start_ticks"], boot_id=boot_id
            ),
            main=Identity(pid=form["pid"], start_ticks=form["start_ticks"], boot_id=boot_id),
            started_at_ms=form["started_at_ms"],
        )

    def order_stop(
        self, key: Key, *, cause: StopCause, grace_seconds: float | None, reason: str
    ) -> None:
        """Tell the shim how to stop; it reads this when it is signalled, or before it starts.

        ``grace_seconds`` None: by the task's own sequence; 0: at once.
        """
        form = {"cause": cause, "grace_seconds": grace_seconds, "reason": reason}
        write_whole(self.directory(key) / "stop.json", json.dumps(form).encode())

    def stop_order(self, key: Key) -> dict[str, Any] | None:
        return self._form(key, "stop.json")

    def exit(self, key: Key) -> dict[str, Any] | None:
        """How it ended, as the shim wrote it (:mod:`agent.shim`)."""
        return self._form(key, "exit.json")

    def keep_exit(self, key: Key, form: dict[str, Any]) -> None:
        """Say how it ended in the shim's place."""
        write_whole(self.directory(key) / "exit.json", json.dumps(form).encode())

    def output(self, key: Key) -> Path:
        """Standard output and error of the program, in the order in which they were written."""
        return self.directory(key) / "output.log"

    def ranks(self, key: Key) -> Path:
        """Where torchrun keeps the output and the errors of each of its ranks."""
        return self.directory(key) / "ranks"

    def is_locked(self, key: Key) -> bool:
        """Whether some shim holds this allocation, in whatever generation."""
        path = self.directory(key).parent / "lock"
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def forget(self, key: Key) -> None:
        shutil.rmtree(self.directory(key), ignore_errors=True)
        parent = self.directory(key).parent
        if parent.exists() and not any(entry.is_dir() for entry in parent.iterdir()):
            shutil.rmtree(parent, ignore_errors=True)

    def _make(self, key: Key) -> Path:
        directory = self.directory(key)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._let_pass(directory.parent, directory)
        return directory

    def _let_pass(self, *directories: Path) -> None:
        for directory in directories:
            directory.chmod(0o700 if self._owner is None else 0o711)

    def _own(self, path: Path, *, mode: int) -> Path:
        """A directory that is the tasks' own."""
        with suppress(FileExistsError):
            path.mkdir(mode=mode)
        if self._owner is not None and path.lstat().st_uid != self._owner.uid:
            try:
                os.chown(path, self._owner.uid, self._owner.gid, follow_symlinks=False)
            except OSError as error:
                raise OSError(
                    f"can't give {path} to account {self._owner.name}: {error.strerror}"
                ) from error
        return path

    def _form(self, key: Key, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.directory(key) / name).read_text())
        except FileNotFoundError:
            return None


def _sequence(launch: Launch) -> dict[str, Any]:
    """How the shim is to stop it (docs/decisions/0005)."""
    checkpoint = launch.checkpoint
    return {
        "grace_seconds": launch.grace_seconds,
        "drain_seconds": launch.drain_seconds,
        "checkpoint": checkpoint.model_dump(mode="json") if checkpoint is not None else None,
    }
