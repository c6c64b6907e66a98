"""A real service and two real agents, each of which may be killed and comes back.

It's used for one schedule after the other: starting a service takes seconds.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agent.runtime import MARK
from client.errors import NotReachableError
from client.sdk import Client
from tests.agent_node import RUN_AGENT
from tests.waiting import wait_for

NODES = ("chaos-a", "chaos-b")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
ORPHAN_SECONDS = 10.0
_SETTINGS = {
    "REPORT_INTERVAL_SECONDS": "0.2",
    "UNREACHABLE_AFTER_SECONDS": "2",
    # Long enough for a machine that does much else: a node must not seem silent when it isn't.
    "LEASE_SECONDS": "10",
    # A shim leaves its agent a second beyond the lease's end (agent/shim.py); the rest is for a
    # machine that is busy.
    "LEASE_MARGIN_SECONDS": "4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A process of an attempt."""

    pid: int
    allocation: str
    generation: int
    is_shim: bool
    """Or the program's process that still waits at the shim's gate."""


class Stand:
    """Leaving the block ends all of it; ``left()`` says what should have ended and hasn't."""

    def __init__(self, folder: Path | None = None) -> None:
        self.root = folder or Path(tempfile.mkdtemp(prefix="stowplan-chaos-"))
        self._own_root = folder is None
        self.home = self.root / "home"
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._agents: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.start_server()
            self.wait_for_server()
            for name in NODES:
                self.start_agent(name)
            with self.client() as client:
                wait_for(
                    lambda: {node["name"] for node in client.nodes()} == set(NODES),
                    "both nodes join",
                    START_SECONDS,
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._agents.values(), self._server):
            if process is not None and process.poll() is None:
                process.terminate()
        for process in (*self._agents.values(), self._server):
            if process is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                process.kill()
                process.wait()
        self.kill_left()
        if self._own_root:
            shutil.rmtree(self.root, ignore_errors=True)

    # Its processes.

    def start_server(self) -> None:
        """Begin to start it, at the port that it had before."""
        url = self.home / "server.url"
        first = self._port == 0
        settings = {f"STOWPLAN_{name}": value for name, value in _SETTINGS.items()}
        self._server = self._start(
            "server",
            ["-m", "client.cli", "serve", "--port", str(self._port)],
            {"STOWPLAN_HOME": str(self.home), **settings},
        )
        if first:
            wait_for(url.exists, "the service tells its address", START_SECONDS)
            self._port = int(url.read_text().strip().rpartition(":")[2])

    def wait_for_server(self) -> None:
        """One that was just started answers only after a while, and a client has no patience with
        one that it never reached.
        """

        def answers() -> bool:
            try:
                with self.client() as client:
                    return list(client.tasks(limit=1)) is not None
            except NotReachableError:
                return False

        wait_for(answers, "the service answers", START_SECONDS)

    def kill_server(self) -> None:
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def start_agent(self, name: str) -> None:
        form = {
            "server": f"http://127.0.0.1:{self._port}",
            "name": name,
            "join_token": (self.home / "join.token").read_text().strip(),
            "state_dir": str(self.state_dir(name)),
            "nvml": False,
            "simulated_devices": "4",
        }
        self._agents[name] = self._start(name, ["-c", RUN_AGENT, json.dumps(form)], {})

    def kill_agent(self, name: str) -> None:
        self._agents[name].kill()
        self._agents[name].wait()

    def _start(
        self, name: str, arguments: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("STOWPLAN_")}
        self.root.mkdir(exist_ok=True)
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, **environment},
                start_new_session=True,
            )

    def ended(self) -> list[str]:
        """Who should run and doesn't, with the last words."""
        processes = {**self._agents, "server": self._server}
        return [
            f"{name} ended with {process.returncode}: {self._last_words(name)}"
            for name, process in processes.items()
            if process is not None and process.poll() is not None
        ]

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def _last_words(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")[-2000:]

    # What there is.

    def state_dir(self, name: str) -> Path:
        return self.root / name

    def client(self) -> Client:
        token = (self.home / "user.token").read_text().strip()
        return Client(f"http://127.0.0.1:{self._port}", token)

    def attempt_files(self, name: str) -> set[str]:
        """Every file of this name in an attempt's directory."""
        found = set()
        for node in NODES:
            # What a walk of pathlib's comes upon may be gone before it looks.
            for directory in subfolders(subfolders([str(self.state_dir(node) / "allocations")])):
                path = f"{directory}/{name}"
                if os.path.exists(path):  # noqa: PTH110  looked at hundreds of times a second
                    found.add(path)
        return found

    def attempt_form(
        self, node: str, allocation: str, generation: int, name: str
    ) -> dict[str, Any]:
        """Raises FileNotFoundError where there is none (any more)."""
        folder = self.state_dir(node) / "allocations" / allocation / str(generation)
        return json.loads((folder / name).read_text())

    def processes(self) -> Iterator[Found]:
        """Shims, and processes with the mark of an attempt."""
        folders = {str(self.state_dir(node) / "allocations") + "/" for node in NODES}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                is_shim = len(words) > 5 and words[3].endswith(b"shim.py")
                if is_shim:
                    path = words[4].decode()
                else:
                    mark = f"{MARK}=".encode()
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    path = next((v for v in variables if v.startswith(mark)), mark).decode()
                    path = path.partition("=")[2]
                folder = next((folder for folder in folders if path.startswith(folder)), None)
                if folder is not None:
                    allocation, generation = path.removeprefix(folder).split("/")[:2]
                    yield Found(
                        pid=int(entry.name),
                        allocation=allocation,
                        generation=int(generation),
                        is_shim=is_shim,
                    )

    def left(self) -> list[str]:
        """Processes of attempts, in words."""
        words = []
        for found in self.processes():
            with suppress(OSError):
                command = Path(f"/proc/{found.pid}/cmdline").read_bytes().replace(b"\0", b" ")
                state = Path(f"/proc/{found.pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    whose = f"{found.allocation}/{found.generation}"
                    words.append(f"{found.pid} {state} of {whose}: {command.decode()[:200]}")
        return words

    def kill_left(self) -> None:
        """So that one schedule's orphans don't become the next one's."""
        while found := list(self.processes()):
            for process in found:
                kill(process.pid)

    def allocations(self, tasks: list[str]) -> list[dict[str, Any]]:
        """The rows of all attempts of these tasks, as the service keeps them."""
        marks = ",".join("?" * len(tasks))
        path = f"file:{self.home / 'stowplan.db'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as database:
            database.row_factory = sqlite3.Row
            query = f"SELECT * FROM allocations WHERE task_id IN ({marks})"
            return [dict(row) for row in database.execute(query, tasks)]


def subfolders(folders: Iterable[str]) -> list[str]:
    """The folders in these, as far as they are there."""
    found = []
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            found += [entry.path for entry in entries if entry.is_dir()]
    return found


def kill(pid: int) -> bool:
    """`kill -9`; False when there is no such process any more."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
