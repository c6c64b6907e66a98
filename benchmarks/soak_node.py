"""A real agent beside the live service, and a look at what it runs."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import httpx2

from benchmarks.live_service import STOP_SECONDS, LiveService

NODE = "soak-node"
DEVICES = 2
WAIT_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.01


class RealNode:
    """An agent with two simulated devices. Leaving the block ends it together with its tasks."""

    def __init__(self, service: LiveService) -> None:
        self._service = service
        self.state = service.root / "node"
        self._agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STOWPLAN_")}
        arguments = [
            *("--name", NODE, "--state-dir", str(self.state), "--no-nvml"),
            *("--simulated-devices", str(DEVICES), "--stop-tasks-on-exit"),
        ]
        log = self._service.root / "agent.log"
        with log.open("wb") as output:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "client.cli", "agent", *arguments],
                env={**environment, "STOWPLAN_HOME": str(self._service.home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(lambda: bool(self._nodes()), f"the node joins:\n{log.read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._agent is not None
        for _order in range(2):  # the second time without grace
            if self._agent.poll() is None:
                self._agent.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._agent.wait(STOP_SECONDS)
                return
        self._agent.kill()
        self._agent.wait()

    def _nodes(self) -> list[Any]:
        return self._get("/api/v1/nodes")["items"]

    # Tasks.

    def submit(self, *argv: str, **spec: Any) -> str:
        """A task's id; without more it needs nothing and has no grace."""
        form = {"argv": argv, "grace_seconds": 0, **spec}
        answer = self._user.post("/api/v1/tasks", content=json.dumps(form))
        return answer.raise_for_status().json()["id"]

    def cancel(self, task: str) -> None:
        self._user.post(f"/api/v1/tasks/{task}/cancel").raise_for_status()

    def task(self, task: str) -> Mapping[str, Any]:
        return self._get(f"/api/v1/tasks/{task}")

    def wait_for_state(self, task: str, *states: str) -> None:
        wait_for(lambda: self.task(task)["state"] in states, f"{task} is {' or '.join(states)}")

    def output(self, task: str) -> str:
        """Of its first replica, so far."""
        return self._get(f"/api/v1/tasks/{task}/logs")["text"]

    def row(self, allocation: str) -> Mapping[str, Any]:
        """As the service keeps it: of an earlier attempt the API tells only the log."""
        path = f"file:{self._service.database}?mode=ro"
        with closing(sqlite3.connect(path, uri=True)) as database:
            database.row_factory = sqlite3.Row
            query = "SELECT * FROM allocations WHERE id = ?"
            return dict(database.execute(query, (allocation,)).fetchone())

    def _get(self, path: str) -> Any:
        return self._user.get(path).raise_for_status().json()

    @property
    def _user(self) -> httpx2.Client:
        return self._service.user

    # Processes.

    def processes_of(self, allocation: str) -> list[int]:
        """Those that carry the mark of the allocation's attempts, and their shims."""
        folder = f"{self.state}/allocations/{allocation}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    known = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                    if folder in known:
                        found.append(int(entry.name))
        return found

    def shim_pid(self, allocation: str) -> int:
        """Of an allocation that runs."""
        [running] = self.state.glob(f"allocations/{allocation}/*/running.json")
        return json.loads(running.read_text())["shim_pid"]


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident, and its proportional part of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:] if ":" in line}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def wait_for(fact: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Raises RuntimeError when it doesn't come true in time."""
    give_up = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > give_up:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(_LOOK_AGAIN_SECONDS)
