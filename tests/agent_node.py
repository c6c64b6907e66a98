"""An agent as a process of its own, and the state directory that its runs share."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from agent.confining.confinement import sweep
from agent.runtime import MARK
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from tests.agent_service import JOIN_TOKEN, AgentService
from tests.waiting import DEADLINE_SECONDS

RUN_AGENT = (
    "import sys, json; from agent.settings import AgentSettings; from agent.start import run;"
    " sys.exit(run(AgentSettings(**json.loads(sys.argv[1]))))"
)


class Node:
    """A state directory, and the agents that use it one after the other."""

    def __init__(self, service: AgentService, folder: Path, name: str = "n1") -> None:
        self.service = service
        self.state = folder / name
        self.name = name
        self.log = folder / f"{name}.log"
        self.agents: list[subprocess.Popen[bytes]] = []

    def start(self, **settings: object) -> subprocess.Popen[bytes]:
        given = {
            "server": self.service.url,
            "name": self.name,
            "join_token": JOIN_TOKEN,
            "state_dir": str(self.state),
            "nvml": False,
            "sample_interval_seconds": 0.2,
            "first_window_seconds": 1.0,
            **settings,
        }
        with self.log.open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-c", RUN_AGENT, json.dumps(given)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "STOWPLAN_AGENT_SECRET": "not for tasks"},
                start_new_session=True,
            )
        self.agents.append(agent)
        return agent

    def end(self) -> None:
        for agent in self.agents:
            with suppress(ProcessLookupError):
                agent.kill()
            agent.wait(DEADLINE_SECONDS)
        sweep(self.state, kill=False)  # a killed agent didn't

    def attempts(self) -> list[Path]:
        return list((self.state / "allocations").glob("*/*/"))

    def alive(self) -> list[int]:
        """Processes of this node's tasks."""
        prefix = f"{MARK}={self.state}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    marks = (entry / "environ").read_bytes().split(b"\0")
                    if any(mark.startswith(prefix) for mark in marks):
                        found.append(int(entry.name))
        return found


def leave(agent: subprocess.Popen[bytes]) -> int:
    agent.terminate()
    return agent.wait(DEADLINE_SECONDS)


def wanted(
    *argv: str,
    name: str = "a",
    generation: int = 1,
    phase: Phase = Phase.RUN,
    gang: Gang | None = None,
    grace_seconds: float = 20.0,
    env: dict[str, str] | None = None,
    devices: tuple[str, ...] = (),
) -> DesiredAllocation:
    return DesiredAllocation(
        id=name,
        task="t1",
        task_name="train",
        generation=generation,
        phase=phase,
        launch=Launch(argv=argv, env=env or {}, grace_seconds=grace_seconds),
        gang=gang or Gang(rank=0, size=1, master_address="127.0.0.1"),
        devices=devices,
    )


def sh(script: str) -> tuple[str, str, str]:
    return ("sh", "-c", script)
