"""`stowplan demo`: ends well by itself, and never leaves a process behind."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import nothing_left
from tests.waiting import wait_for

DEMO = [sys.executable, "-m", "client.cli", "demo"]
DEMO_SECONDS = 240.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its home. Afterwards it's empty, and no process of the demo is left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    yield folder
    nothing_left(tmp_path)
    assert list(folder.glob("stowplan-demo-*")) == []


def environment(temporary: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(temporary), "STOWPLAN_SERVER": "http://127.0.0.1:9"}


def test_without_a_terminal_it_ends_by_itself_with_every_task_done(temporary: Path) -> None:
    done = subprocess.run(
        DEMO,
        env=environment(temporary),
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = {
        line.split()[0]: line
        for line in done.stdout.splitlines()
        if line.startswith(("digits-", "text-", "misfit"))
    }
    assert set(summary) == {"digits-gang", "text-model", "digits-service", "misfit"}
    for name in ("digits-gang", "text-model", "digits-service"):
        assert summary[name].split()[1] == "succeeded", done.stdout
        assert "simulated GPU" in summary[name]
    assert "demo-a, demo-b" in summary["digits-gang"] or "demo-b, demo-a" in summary["digits-gang"]
    assert "held-out digits right" in summary["digits-service"]
    assert "stowplan why misfit" in done.stdout
    assert "simulated" in done.stdout


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("right away", signal.SIGINT),
        ("demo-a: joined", signal.SIGTERM),
        ("digits-gang runs", signal.SIGINT),
    ],
)
def test_interrupted_demo_ends_and_removes_everything(
    temporary: Path, number: int, moment: str
) -> None:
    """At three moments: while the service starts, while nodes join, and while tasks run."""
    output = temporary.parent / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(DEMO, env=environment(temporary), stdout=file, stderr=file)
    wait_for(_reached(moment, temporary, output, demo), f"the demo gets to: {moment}", DEMO_SECONDS)
    demo.send_signal(number)
    assert demo.wait(DEMO_SECONDS) == 128 + number, output.read_text()
    assert "Traceback" not in output.read_text()


def _reached(
    moment: str, temporary: Path, output: Path, demo: subprocess.Popen[bytes]
) -> Callable[[], bool]:
    def reached() -> bool:
        assert demo.poll() is None, output.read_text()
        if moment == "right away":
            return any(temporary.glob("stowplan-demo-*/service.log"))
        return moment in output.read_text()

    return reached


def test_on_a_terminal_it_stays_until_ctrl_c_and_names_what_to_try(temporary: Path) -> None:
    controller, terminal = pty.openpty()
    os.set_blocking(controller, False)
    demo = subprocess.Popen(
        DEMO,
        env=environment(temporary) | {"TERM": "xterm", "COLUMNS": "160", "LINES": "60"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = bytearray()

    def names_what_to_try() -> bool:
        _read(controller, shown)
        assert demo.poll() is None, shown.decode(errors="replace")
        return b"Ctrl-C ends everything" in shown

    def ended() -> bool:
        _read(controller, shown)
        return demo.poll() is not None

    wait_for(names_what_to_try, "the demo stays and says what to try", DEMO_SECONDS)
    for part in (b"/predict", b"user.token", b"stowplan why misfit", b"simulated GPU 0"):
        assert part in shown
    demo.send_signal(signal.SIGINT)
    wait_for(ended, "the demo ends", DEMO_SECONDS)
    os.close(controller)
    assert demo.returncode == 0, shown.decode(errors="replace")
    assert b"Traceback" not in shown


def _read(controller: int, shown: bytearray) -> None:
    """Take what is on the terminal, if anything is: the demo would stop at a full one."""
    with contextlib.suppress(BlockingIOError, OSError):
        shown.extend(os.read(controller, 65536))
