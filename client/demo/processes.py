"""The demo's processes: a service and two agents in a home of their own. None outlives the demo."""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from client.connection import SERVER_URL_FILE, USER_TOKEN_FILE
from client.errors import StowplanError

NODES = ("demo-a", "demo-b")
DEVICES_PER_NODE = 2

_PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""
_AGENT_STOP_SECONDS = 20.0
"""An agent gives its tasks their grace before it ends."""
_SERVICE_STOP_SECONDS = 10.0
_KILL_SECONDS = 10.0
"""Nothing survives SIGKILL, but a process may take a moment to go, or hang in its driver."""
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that we started and the file that holds its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_seconds: float

    def log_tail(self) -> str:
        """The last of what it said."""
        with self.log.open("rb") as file:
            file.seek(max(self.log.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace")


class Household:
    """A temporary home with a service and agents. Leaving the block ends and removes all of it."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="stowplan-demo-"))
        self.home = self._root / "home"
        self.work_dir = self._root / "work"
        self.checkpoint_dir = self._root / "checkpoints"
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        # Orphans of our descendants become our children: whatever a crashed agent leaves is found.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.work_dir.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def token_file(self) -> Path:
        return self.home / USER_TOKEN_FILE

    def start_service(self) -> None:
        """Start `stowplan serve` on a free port of the loopback."""
        self._start(
            "service", "serve", "--host", "127.0.0.1", "--port", "0", "--home", str(self.home),
            stop_seconds=_SERVICE_STOP_SECONDS,
        )  # fmt: skip

    def server_url(self) -> str | None:
        """Where the service listens; None until it has said so."""
        with contextlib.suppress(FileNotFoundError):
            return (self.home / SERVER_URL_FILE).read_text().strip() or None
        return None

    def start_agents(self, server: str) -> None:
        """Start one `stowplan agent` a node, each with devices that are accounting units only."""
        for node in NODES:
            self._start(
                node, "agent", "--name", node, "--server", server,
                "--simulated-devices", str(DEVICES_PER_NODE), "--no-nvml", "--stop-tasks-on-exit",
                "--state-dir", str(self._root / node),
                stop_seconds=_AGENT_STOP_SECONDS,
            )  # fmt: skip

    def _start(self, name: str, *arguments: str, stop_seconds: float) -> None:
        log = self._root / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                # -P: a folder named `client` where the person stands must not be taken for ours.
                [sys.executable, "-P", "-m", "client.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                cwd=self.work_dir,
                # Ctrl-C on the terminal reaches us alone, and we end them in order.
                start_new_session=True,
            )
        self._children.append(Child(name=name, process=process, log=log, stop_seconds=stop_seconds))

    def _environment(self) -> dict[str, str]:
        """Ours without the person's own Stowplan settings: the demo touches no other service."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("STOWPLAN_")
        }
        return kept | {
            "STOWPLAN_HOME": str(self.home),
            "STOWPLAN_REPORT_INTERVAL_SECONDS": "0.5",
            "PYTHONUNBUFFERED": "1",
        }

    def check(self) -> None:
        """See that all still run.

        Raises:
            StowplanError: one has ended by itself; the detail has the end of its output.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise StowplanError(f"the {child.name} ended with {code}:\n{child.log_tail()}")

    def log_tails(self) -> Iterator[tuple[str, str]]:
        """Each process's name and the end of its output."""
        for child in self._children:
            yield child.name, child.log_tail()

    def close(self) -> None:
        """End agents and tasks, then the service, then whatever is left; remove the home."""
        agents = [child for child in self._children if child.name in NODES]
        for group in (agents, [child for child in self._children if child not in agents]):
            _stop(group)
        _kill_descendants()
        shutil.rmtree(self._root, ignore_errors=True)


def _stop(children: list[Child]) -> None:
    """SIGTERM to all, then wait for each up to its own time; the rest is killed."""
    for child in children:
        child.process.terminate()
    for child in children:
        try:
            child.process.wait(child.stop_seconds)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def _kill_descendants() -> None:
    """Kill every process below this one until there is none: a killed one's orphans come to us."""
    import psutil

    ourselves = psutil.Process()
    deadline = time.monotonic() + _KILL_SECONDS
    while (left := ourselves.children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
