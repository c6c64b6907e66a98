"""The `stowplan` command as processes, in a home of the test's, and a look at what they leave."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from client.errors import NotReachableError
from client.sdk import Client
from tests.waiting import wait_for

EXAMPLES = Path(__file__).parent.parent / "examples"
START_SECONDS = 60.0
END_SECONDS = 60.0
_STOWPLAN = [sys.executable, "-m", "client.cli"]


class Installation:
    """One home, and every process that a test starts in it.

    All of them, the tasks too, have a path below ``root`` in their environment: that is how they
    are found again.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STOWPLAN_")
        } | {"STOWPLAN_HOME": str(self.home), "STOWPLAN_REPORT_INTERVAL_SECONDS": "0.2"}
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*_STOWPLAN, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **options,
        )

    def ask(self, *arguments: str) -> Any:
        """What a command prints with ``-o json``."""
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on; what it prints is in ``output(name)``."""
        self.root.mkdir(exist_ok=True)
        with (self.root / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [*_STOWPLAN, *arguments],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._started.append(process)
        return process

    def output(self, name: str) -> str:
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def serve(self, port: int = 0) -> subprocess.Popen[bytes]:
        """A service that answers. Without a port it takes a free one."""
        url = self.home / "server.url"
        url.unlink(missing_ok=True)
        service = self.start("service", "serve", "--port", str(port))
        self._wait(url.exists, "the service tells its address", service, "service")
        with self.client() as stowplan:
            self._wait(lambda: _answers(stowplan), "the service answers", service, "service")
        return service

    @property
    def port(self) -> int:
        return int((self.home / "server.url").read_text().strip().rpartition(":")[2])

    def join(self, node: str, *, devices: int = 2) -> subprocess.Popen[bytes]:
        """A node that the service has seen."""
        agent = self.start(
            node, "agent", "--name", node, "--simulated-devices", str(devices), "--no-nvml",
            "--stop-tasks-on-exit", "--state-dir", str(self.root / node),
        )  # fmt: skip
        with self.client() as stowplan:
            self._wait(
                lambda: node in {each["name"] for each in stowplan.nodes()},
                f"{node} joins",
                agent,
                node,
            )
        return agent

    def client(self) -> Client:
        server = (self.home / "server.url").read_text().strip()
        return Client(server, (self.home / "user.token").read_text().strip())

    def _wait(self, fact: Any, what: str, process: subprocess.Popen[bytes], name: str) -> None:
        def fact_or_end() -> bool:
            assert process.poll() is None, f"{name} ended:\n{self.output(name)}"
            return fact()

        wait_for(fact_or_end, what, START_SECONDS)

    def close(self) -> None:
        """End what the test started, agents before the service, as a person would."""
        for process in reversed(self._started):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _answers(stowplan: Client) -> bool:
    try:
        return list(stowplan.tasks(limit=1)) is not None
    except NotReachableError:  # it tells its address before it has made its database
        return False


def processes_of(root: Path) -> list[str]:
    """Every process that has a path below ``root`` in its environment or its arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if any(str(root) in word for word in words) and process.pid != os.getpid():
                found.append(f"{process.pid} {process.status()}: {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def nothing_left(root: Path) -> None:
    """Fail when a process of this test is there once all had time to end."""
    try:
        wait_for(lambda: not processes_of(root), "no process is left", END_SECONDS)
    except AssertionError as error:
        raise AssertionError("left behind:\n" + "\n".join(processes_of(root))) from error
