"""The shim for real: processes, signals, files."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import shim
from agent.events import Key
from agent.processes import kill_marked, open_pidfd, send_signal
from agent.runtime import MARK
from agent.spool import Intent, Spool
from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from tests.waiting import DEADLINE_SECONDS, wait_for

KEY = Key(id="a", generation=1)
STOP = StopCause.CANCELLED
SHIM = Path(shim.__file__)


class Bench:
    """A spool, and shims over it."""

    def __init__(self, state_dir: Path) -> None:
        self.spool = Spool(state_dir)
        self.children: list[subprocess.Popen[bytes]] = []

    def intend(self, *argv: str, working_dir: str = "/", grace_seconds: float = 20.0) -> None:
        allocation = DesiredAllocation(
            id=KEY.id,
            task="t",
            task_name="t",
            generation=KEY.generation,
            phase=Phase.RUN,
            launch=Launch(argv=argv, grace_seconds=grace_seconds),
            gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        )
        env = {"PATH": os.environ["PATH"], MARK: str(self.spool.directory(KEY))}
        intent = Intent(
            allocation=allocation, port=20_000, argv=argv, env=env, working_dir=working_dir
        )
        self.spool.keep_intent(KEY, intent)

    def launch(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM), str(self.spool.directory(KEY))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def run(self, *argv: str, **options: str) -> dict:
        self.intend(*argv, **options)  # pyright: ignore[reportArgumentType]
        assert self.launch().wait(DEADLINE_SECONDS) == 0
        return self.exit()

    def exit(self) -> dict:
        form = self.spool.exit(KEY)
        assert form is not None
        return form

    def output(self) -> str:
        with suppress(FileNotFoundError):
            return self.spool.output(KEY).read_text()
        return ""

    def wait_for_output(self, text: str) -> None:
        wait_for(lambda: text in self.output(), f"{text!r} in the output")


def marked(directory: Path) -> list[int]:
    """Processes that carry this directory's mark."""
    mark = f"{MARK}={directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "state")
    yield bench
    left = marked(bench.spool.directory(KEY))
    while kill_marked(MARK, str(bench.spool.directory(KEY))):
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


@pytest.mark.parametrize(
    ("argv", "code", "number"),
    [
        (("true",), 0, None),
        (sh("exit 3"), 3, None),
        (sh("kill -9 $$"), None, 9),
        (sh("kill -TERM $$"), None, 15),
    ],
)
def test_the_exit_is_written_down(
    bench: Bench, argv: tuple[str, ...], code: int | None, number: int | None
) -> None:
    form = bench.run(*argv)
    assert (form["code"], form["signal"], form["stopped"], form["lost"]) == (
        code,
        number,
        False,
        False,
    )


def test_output_and_errors_are_in_one_file_in_order(bench: Bench) -> None:
    bench.run(*sh("echo one; echo two >&2; echo three"))
    assert bench.output() == "one\ntwo\nthree\n"


def test_the_identity_is_on_disk_before_the_program_runs(bench: Bench) -> None:
    directory = bench.spool.directory(KEY)
    bench.run(*sh(f"cat {directory}/running.json; echo; echo $$"))
    identity, pid = bench.output().splitlines()
    assert json.loads(identity)["pid"] == int(pid)


def test_the_program_does_not_ignore_sigpipe_and_has_no_open_files_of_the_shim(
    bench: Bench,
) -> None:
    bench.run("python3", "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))")
    assert bench.output().strip() == "['0', '1', '2', '3']"  # 3 is the listing itself
    status = bench.run(*sh("grep Sig /proc/self/status"))
    assert status["code"] == 0


def test_signals_reach_the_program_as_from_a_fresh_shell(bench: Bench) -> None:
    bench.run(*sh("grep -E 'SigBlk|SigIgn' /proc/self/status"))
    masks = [int(line.split()[1], 16) for line in bench.output().splitlines()]
    of_the_c_library = 0b11 << 31  # signals 32 and 33: no program can set or see them
    assert [mask & ~of_the_c_library for mask in masks] == [0, 0]


@pytest.mark.parametrize(
    ("argv", "working_dir", "reason"),
    [
        (("no-such-program",), "/", "no program 'no-such-program' on this node"),
        (("/etc/passwd",), "/", "can't run '/etc/passwd': Permission denied"),
        (("true",), "/no/such/folder", "can't enter the working directory /no/such/folder"),
    ],
)
def test_a_program_that_cannot_run_says_why(
    bench: Bench, argv: tuple[str, ...], working_dir: str, reason: str
) -> None:
    form = bench.run(*argv, working_dir=working_dir)
    assert reason in form["reason"]
    assert (form["code"], form["signal"]) == (None, None)


def test_a_second_shim_for_the_same_allocation_refuses(bench: Bench) -> None:
    bench.intend(*sh("echo up; sleep 600"))
    first = bench.launch()
    bench.wait_for_output("up")
    assert bench.launch().wait(DEADLINE_SECONDS) == shim.LOCKED_EXIT_CODE
    bench.spool.order_stop(
        KEY, cause=StopCause.CANCELLED, grace_seconds=0, reason="end of the test"
    )
    first.terminate()
    assert first.wait(DEADLINE_SECONDS) == 0
    assert bench.output() == "up\n"


def test_a_settled_attempt_is_not_run_again(bench: Bench) -> None:
    bench.run(*sh("echo once"))
    assert bench.launch().wait(DEADLINE_SECONDS) == 0
    assert bench.output() == "once\n"


def test_an_attempt_that_was_stopped_before_its_start_never_runs(bench: Bench) -> None:
    bench.intend(*sh("echo ran"))
    bench.spool.order_stop(
        KEY, cause=StopCause.CANCELLED, grace_seconds=5, reason="no longer wanted"
    )
    assert bench.launch().wait(DEADLINE_SECONDS) == 0
    form = bench.exit()
    assert (form["stopped"], form["reason"]) == (True, "stopped before it was started")
    assert bench.output() == ""


def test_stop_reaches_the_main_process_only_and_it_ends_in_its_own_way(bench: Bench) -> None:
    worker = "trap 'echo worker stopped' TERM; echo worker up; while :; do sleep 0.05; done"
    main = f"(exec sh -c \"{worker}\") & trap 'echo saved; exit 7' TERM; echo up; wait; wait"
    bench.intend(*sh(main))
    child = bench.launch()
    bench.wait_for_output("worker up")
    bench.wait_for_output("up\n")
    bench.spool.order_stop(
        KEY, cause=StopCause.CANCELLED, grace_seconds=DEADLINE_SECONDS, reason="preempted"
    )
    child.terminate()
    assert child.wait(DEADLINE_SECONDS) == 0
    form = bench.exit()
    assert (form["code"], form["stopped"], form["reason"]) == (7, True, "preempted")
    assert "saved" in bench.output()
    assert "worker stopped" not in bench.output()


def test_what_ignores_term_or_left_its_session_is_killed_after_the_grace(bench: Bench) -> None:
    bench.intend(
        *sh(
            "setsid sh -c 'trap : TERM; echo escaped; while :; do sleep 1; done' & "
            "trap : TERM; echo up; while :; do sleep 1; done"
        )
    )
    child = bench.launch()
    bench.wait_for_output("escaped")
    bench.wait_for_output("up")
    bench.spool.order_stop(KEY, cause=STOP, grace_seconds=0.1, reason="enough")
    child.terminate()
    assert child.wait(DEADLINE_SECONDS) == 0
    assert bench.exit()["signal"] == signal.SIGKILL
    assert marked(bench.spool.directory(KEY)) == []


def test_what_the_program_left_behind_is_gone_before_its_exit_is_written(bench: Bench) -> None:
    form = bench.run(*sh("(setsid sleep 600 &); (setsid setsid sleep 600 &); exit 4"))
    assert form["code"] == 4
    assert marked(bench.spool.directory(KEY)) == []


def test_the_program_goes_on_when_whoever_started_the_shim_is_killed(
    bench: Bench, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bench.intend(*sh(f"echo up; cat {gate} >/dev/null; exit 9"))
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=subprocess.PIPE)\n"
            "time.sleep(600)",
            *(sys.executable, "-I", "-S", str(SHIM), str(bench.spool.directory(KEY))),
        ]
    )
    bench.wait_for_output("up")
    starter.kill()
    starter.wait(DEADLINE_SECONDS)
    running = bench.spool.running(KEY)
    assert running is not None
    fd = open_pidfd(running.shim)
    assert fd is not None
    gate.write_text("go")
    assert select.select([fd], [], [], DEADLINE_SECONDS)[0]
    os.close(fd)
    assert bench.exit()["code"] == 9


def test_the_program_dies_with_its_shim(bench: Bench) -> None:
    bench.intend(*sh("echo up; exec sleep 600"))
    child = bench.launch()
    bench.wait_for_output("up")
    running = bench.spool.running(KEY)
    assert running is not None
    main = open_pidfd(running.main)
    assert main is not None
    send_signal(running.shim, signal.SIGKILL)
    child.wait(DEADLINE_SECONDS)
    assert select.select([main], [], [], DEADLINE_SECONDS)[0]
    os.close(main)
    assert bench.spool.exit(KEY) is None


def test_a_stop_by_the_machine_grants_the_grace_of_the_task(bench: Bench) -> None:
    bench.intend(*sh("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"))
    child = bench.launch()
    bench.wait_for_output("up")
    child.terminate()
    assert child.wait(DEADLINE_SECONDS) == 0
    form = bench.exit()
    assert (form["code"], form["stopped"]) == (5, True)
    assert "not by the agent" in form["reason"]


def test_a_shim_stays_small(bench: Bench) -> None:
    bench.intend(*sh("echo up; sleep 600"))
    child = bench.launch()
    bench.wait_for_output("up")
    status = Path(f"/proc/{child.pid}/status").read_text()
    resident_kib = int(next(x for x in status.splitlines() if x.startswith("VmRSS")).split()[1])
    bench.spool.order_stop(
        KEY, cause=StopCause.CANCELLED, grace_seconds=0, reason="end of the test"
    )
    child.terminate()
    child.wait(DEADLINE_SECONDS)
    assert resident_kib < 20 << 10
