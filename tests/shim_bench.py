"""A shim for real, without an agent: its spool, its processes, what it wrote down."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent import shim
from agent.confining.accounts import Account
from agent.events import Key
from agent.processes import kill_marked
from agent.runtime import MARK
from agent.spool import Intent, Spool
from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from tests.waiting import DEADLINE_SECONDS, wait_for

KEY = Key(id="a", generation=1)
SHIM = Path(shim.__file__)


class Bench:
    """A spool, and shims over it."""

    def __init__(self, state_dir: Path, owner: Account | None) -> None:
        self.spool = Spool(state_dir, owner=owner)
        self.children: list[subprocess.Popen[bytes]] = []

    @property
    def directory(self) -> Path:
        return self.spool.directory(KEY)

    @property
    def control(self) -> Path:
        return self.directory / "control"

    def intend(
        self, *argv: str, working_dir: str = "/", grace_seconds: float = 20.0, **more: object
    ) -> None:
        """``more`` goes into ``intent.json`` as it is."""
        allocation = DesiredAllocation(
            id=KEY.id,
            task="t",
            task_name="t",
            generation=KEY.generation,
            phase=Phase.RUN,
            launch=Launch(argv=argv, grace_seconds=grace_seconds),
            gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        )
        env = {
            "PATH": os.environ["PATH"],
            "STOWPLAN_CONTROL": str(self.control),
            MARK: str(self.directory),
        }
        intent = Intent(
            allocation=allocation, port=20_000, argv=argv, env=env, working_dir=working_dir
        )
        self.spool.keep_intent(KEY, intent)
        path = self.directory / "intent.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

    def launch(self, **options: object) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM), str(self.directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={},
            **options,  # pyright: ignore[reportCallIssue, reportArgumentType]
        )
        self.children.append(child)
        return child

    def start(self, *argv: str, **more: object) -> subprocess.Popen[bytes]:
        """A shim whose program has said "up"."""
        self.intend(*argv, **more)  # pyright: ignore[reportArgumentType]
        child = self.launch()
        self.wait_for_output("up")
        return child

    def run(self, *argv: str, **more: object) -> dict:
        self.intend(*argv, **more)  # pyright: ignore[reportArgumentType]
        return self.end(self.launch())

    def order(
        self,
        child: subprocess.Popen[bytes],
        grace_seconds: float,
        cause: StopCause = StopCause.PREEMPTED,
    ) -> None:
        """As the agent gives an order."""
        self.spool.order_stop(KEY, cause=cause, grace_seconds=grace_seconds, reason="enough")
        child.send_signal(signal.SIGTERM)

    def end(self, child: subprocess.Popen[bytes]) -> dict:
        """Wait for a shim's end: how its program ended."""
        assert child.wait(DEADLINE_SECONDS) == 0
        form = self.spool.exit(KEY)
        assert form is not None
        return form

    def output(self) -> str:
        with suppress(FileNotFoundError):
            return self.spool.output(KEY).read_text()
        return ""

    def wait_for_output(self, text: str) -> None:
        wait_for(lambda: text in self.output(), f"{text!r} in the output")

    def alive(self) -> list[int]:
        """Processes that carry this attempt's mark."""
        mark = f"{MARK}={self.directory}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found


@contextmanager
def shim_bench(tmp_path: Path, *, owner: Account | None = None) -> Iterator[Bench]:
    """A bench, left as it was found: nothing of it runs any more."""
    bench = Bench(tmp_path / "state", owner)
    yield bench
    left = bench.alive()
    while kill_marked(MARK, str(bench.directory)):
        pass
    for child in bench.children:
        child.kill()
        child.wait(DEADLINE_SECONDS)
        assert child.stdout is not None
        child.stdout.close()
    bench.spool.close()
    assert left == []


def sh(script: str) -> tuple[str, str, str]:
    return ("sh", "-c", script)
