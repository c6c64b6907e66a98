"""At the end of a test run: which processes of it are still there.

A process is of this run when it carries the run's mark in its environment, or a path below the
run's own folder in its arguments or environment: agents give their tasks nothing of what they
inherited, but every task and shim names its directory. Other runs on the same machine have other
folders.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.confining.cgroups import name_of

RUN = "PYTEST_RUN_OF_STOWPLAN"  # not STOWPLAN_*: harnesses keep those from what they start
_SECONDS = 15.0
"""What an end may take that nobody waited for."""
_LOOK_AGAIN_SECONDS = 0.1
_SHOWN = 20
_CGROUPS = Path("/sys/fs/cgroup")


class Leftovers:
    """A plugin of the process that the run was started as; workers of xdist inherit its mark."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._left: list[str] = []
        os.environ[RUN] = secrets.token_hex(8)

    # After xdist has ended its workers, and before pytest removes the run's folder.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        folders: pytest.TempPathFactory = session.config._tmp_path_factory  # pyright: ignore[reportAttributeAccessIssue]
        folder = folders._basetemp  # pyright: ignore[reportPrivateUsage]  getbasetemp() would make one
        marks = [f"{RUN}={os.environ[RUN]}", *([f"{folder}/"] if folder else [])]
        give_up = time.monotonic() + self._seconds
        while (left := list(processes_with(marks))) and time.monotonic() < give_up:
            time.sleep(_LOOK_AGAIN_SECONDS)
        self._left = left
        if folder is not None:
            remove_groups(folder)
        if left and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left:
            terminalreporter.section(f"left behind: {len(self._left)} processes", red=True)
            for words in self._left[:_SHOWN]:
                terminalreporter.line(words)


def remove_groups(folder: Path) -> None:
    """Those of every agent whose state directory is below the folder, as far as they are empty."""
    names = {name_of(lock.parent) for lock in folder.rglob("agent.lock")}
    for parent, children, _ in os.walk(_CGROUPS, topdown=False):
        if names & {*children, *Path(parent).parts}:
            for child in children:
                if child in names or names & set(Path(parent).parts):
                    with suppress(OSError):
                        Path(parent, child).rmdir()


def processes_with(marks: list[str]) -> Iterator[str]:
    """Processes, in words, with one of these in an argument or a variable; not ourselves."""
    wanted = [mark.encode() for mark in marks]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0].decode()
            words = (entry / "cmdline").read_bytes()
            known = words + b"\0" + (entry / "environ").read_bytes()
            found = next((mark for mark in wanted if mark in known), None)
            if found is not None and state != "Z":
                where = known[known.index(found) :].split(b"\0")[0]
                command = words.replace(b"\0", b" ").decode(errors="replace").strip()
                yield f"{entry.name} {state} {command[:300]} ({where.decode(errors='replace')})"
