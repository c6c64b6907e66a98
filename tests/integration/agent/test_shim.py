"""The shim for real: processes, signals, files."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import shim
from agent.processes import open_pidfd, send_signal
from protocol.desired import StopCause
from tests.shim_bench import KEY, SHIM, Bench, sh, shim_bench
from tests.waiting import DEADLINE_SECONDS


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with shim_bench(tmp_path) as bench:
        yield bench


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
    directory = bench.directory
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
    first = bench.start(*sh("echo up; sleep 600"))
    assert bench.launch().wait(DEADLINE_SECONDS) == shim.LOCKED_EXIT_CODE
    bench.order(first, 0)
    bench.end(first)
    assert bench.output() == "up\n"


def test_a_settled_attempt_is_not_run_again(bench: Bench) -> None:
    bench.run(*sh("echo once"))
    assert bench.launch().wait(DEADLINE_SECONDS) == 0
    assert bench.output() == "once\n"


def test_an_attempt_that_was_stopped_before_its_start_never_runs(bench: Bench) -> None:
    bench.intend(*sh("echo ran"))
    bench.spool.order_stop(KEY, cause=StopCause.CANCELLED, grace_seconds=5, reason="unwanted")
    form = bench.end(bench.launch())
    assert (form["stopped"], form["reason"]) == (True, "stopped before it was started")
    assert bench.output() == ""


def test_stop_reaches_the_main_process_only_and_it_ends_in_its_own_way(bench: Bench) -> None:
    worker = "trap 'echo worker stopped' TERM; echo worker up; while :; do sleep 0.05; done"
    main = f"(exec sh -c \"{worker}\") & trap 'echo saved; exit 7' TERM; echo main up; wait; wait"
    child = bench.start(*sh(main), grace_seconds=DEADLINE_SECONDS)
    bench.wait_for_output("worker up")
    bench.wait_for_output("main up")
    bench.order(child, DEADLINE_SECONDS)
    form = bench.end(child)
    assert (form["code"], form["stopped"], form["reason"]) == (7, True, "enough")
    assert (form["cause"], form["checkpoint"]) == ("preempted", None)
    assert "saved" in bench.output()
    assert "worker stopped" not in bench.output()


def test_what_ignores_term_or_left_its_session_is_killed_after_the_grace(bench: Bench) -> None:
    child = bench.start(
        *sh(
            "setsid sh -c 'trap : TERM; echo escaped; while :; do sleep 1; done' & "
            "trap : TERM; echo up; while :; do sleep 1; done"
        )
    )
    bench.wait_for_output("escaped")
    bench.order(child, 0.1)
    assert bench.end(child)["signal"] == signal.SIGKILL
    assert bench.alive() == []


def test_what_the_program_left_behind_is_gone_before_its_exit_is_written(bench: Bench) -> None:
    form = bench.run(*sh("(setsid sleep 600 &); (setsid setsid sleep 600 &); exit 4"))
    assert form["code"] == 4
    assert bench.alive() == []


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
            *(sys.executable, "-I", "-S", str(SHIM), str(bench.directory)),
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
    form = bench.spool.exit(KEY)
    assert form is not None
    assert form["code"] == 9


def test_the_program_dies_with_its_shim(bench: Bench) -> None:
    child = bench.start(*sh("echo up; exec sleep 600"))
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
    child = bench.start(*sh("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"))
    child.terminate()
    form = bench.end(child)
    assert (form["code"], form["stopped"], form["cause"]) == (5, True, "left")
    assert "not by the agent" in form["reason"]


def test_shims_stay_small(bench: Bench) -> None:
    bench.run("true")  # compiles what they share
    (bench.directory / "exit.json").unlink()
    child = bench.start(*sh("echo up; exec sleep 600"))
    rollup = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup}
    bench.order(child, 0)
    bench.end(child)
    assert kib["Rss"] <= 10 << 10
    # What is its own; the rest (Python and the C library) is divided among all that run.
    assert kib["Private_Dirty"] <= 3584


def test_files_that_the_agent_left_open_are_not_handed_on(bench: Bench) -> None:
    reader, writer = os.pipe()
    bench.intend(*sh("ls -l /proc/self/fd"))
    bench.end(bench.launch(pass_fds=(writer,)))
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert "pipe" not in bench.output()


def test_what_the_starter_ignored_the_program_does_not(bench: Bench) -> None:
    bench.intend(*sh("grep SigIgn /proc/self/status"))
    ignores_hangups = "trap '' HUP INT QUIT; exec \"$@\""
    shim_argv = (sys.executable, "-I", "-S", str(SHIM), str(bench.directory))
    subprocess.run(["sh", "-c", ignores_hangups, "sh", *shim_argv], check=True, timeout=60)
    ignored = int(bench.output().split()[1], 16)
    assert ignored & 0b111 == 0


def test_a_program_whose_interpreter_is_missing_says_so(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "train"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    assert "the interpreter that it names is not" in bench.run(str(script))["reason"]


def test_words_beyond_ascii_reach_the_program_whatever_the_locale(bench: Bench) -> None:
    bench.run("printf", "%s", "Grüße, 世界")
    assert bench.output() == "Grüße, 世界"


def test_a_stopped_start_is_not_forked_into_the_world_while_the_lease_is_over(
    bench: Bench, tmp_path: Path
) -> None:
    lease = tmp_path / "lease.json"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    lease.write_text(json.dumps({"boot_id": boot_id, "until_seconds": 1.0}))
    form = bench.run(*sh("echo ran"), lease=str(lease))
    assert (form["stopped"], form["cause"], form["code"]) == (True, "lease", None)
    assert bench.output() == ""
