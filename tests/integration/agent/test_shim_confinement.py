"""What a shim holds its program to, by the kernel's own account of it."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent import shim
from agent.confining.accounts import Account
from agent.processes import open_pidfd, send_signal
from tests.shim_bench import KEY, Bench, sh, shim_bench
from tests.waiting import DEADLINE_SECONDS, wait_for

UNIFIED = next(
    (p for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if
     (p / "cgroup.procs").exists() and os.access(p, os.W_OK)), None,
)  # fmt: skip
MEMORY = Path("/sys/fs/cgroup/memory")
ACCOUNT = 64_007
OWNER = Account(name="tasks", uid=ACCOUNT, gid=ACCOUNT, groups=(ACCOUNT + 1,), home="/")
PLAIN = {"grace_seconds": 0.05, "drain_seconds": 0.0, "checkpoint": None}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change accounts")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with shim_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
def open_bench() -> Iterator[Bench]:
    """With tasks of an account of their own, and not below pytest's directory: none may pass."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    try:
        with shim_bench(folder, owner=OWNER) as bench:
            yield bench
    finally:
        shutil.rmtree(folder)


def cgroup_below(root: Path) -> Iterator[Path]:
    group = root / f"stowplan-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control groups of our own here: {error}")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    if UNIFIED is None:
        pytest.skip("no cgroup2 that we may write")
    yield from cgroup_below(UNIFIED)


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    if not (MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("no memory controller of version 1")
    yield from cgroup_below(MEMORY)


def held(group: Path) -> dict[str, object]:
    return {
        "cgroups": [str(group / "cgroup.procs")],
        "kill": str(group / "cgroup.kill"),
        "events": str(group / "cgroup.events"),
    }


def account(**more: object) -> dict[str, object]:
    return {"account": {"uid": ACCOUNT, "gid": ACCOUNT, "groups": [ACCOUNT + 1]}, **more}


def status(bench: Bench) -> dict[str, str]:
    lines = (line.split(":", 1) for line in bench.output().splitlines() if ":" in line)
    return {name: value.strip() for name, value in lines}


def test_the_program_and_all_that_it_starts_is_in_its_cgroup_and_the_shim_is_not(
    bench: Bench, cgroup: Path
) -> None:
    child = bench.start(
        *sh("setsid sleep 600 & echo up; sleep 600"), confinement=held(cgroup), stop=PLAIN
    )
    wait_for(lambda: len((cgroup / "cgroup.procs").read_text().split()) == 3, "three are in it")
    assert str(child.pid) not in (cgroup / "cgroup.procs").read_text().split()
    bench.order(child, 0.05)
    bench.end(child)
    assert (cgroup / "cgroup.procs").read_text() == ""


def test_the_kill_of_the_cgroup_reaches_what_no_tree_leads_to(bench: Bench, cgroup: Path) -> None:
    child = bench.start(*sh("echo up; sleep 600"), confinement=held(cgroup), stop=PLAIN)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        (cgroup / "cgroup.procs").write_text(str(stranger.pid))
        bench.order(child, 0.05)
        assert stranger.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        bench.end(child)


def test_no_attempt_starts_while_another_is_in_its_cgroup(bench: Bench, cgroup: Path) -> None:
    bench.intend(*sh("echo ran"), confinement=held(cgroup))
    with subprocess.Popen(["sleep", "600"]) as left_behind:
        (cgroup / "cgroup.procs").write_text(str(left_behind.pid))
        assert bench.launch().wait(DEADLINE_SECONDS) == shim.LOCKED_EXIT_CODE
        left_behind.kill()
    wait_for(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), "it's empty")
    assert bench.end(bench.launch())["code"] == 0
    assert bench.output() == "ran\n"


@pytest.mark.parametrize(
    ("confinement", "reason"),
    [
        ({"cgroups": ["/no/such/group/cgroup.procs"]}, "can't join the cgroup /no/such/group: No"),
        ({"cpus": [4000]}, "can't run on the processors [4000]: Invalid argument"),
        ({"limits": {"nofiles": 3}}, "no limit is called 'nofiles'"),
    ],
)
def test_what_cannot_be_held_is_not_started_and_says_why(
    bench: Bench, confinement: dict[str, object], reason: str
) -> None:
    form = bench.run(*sh("echo ran"), confinement=confinement)
    assert reason in form["reason"]
    assert (form["code"], form["signal"]) == (None, None)
    assert bench.output() == ""


def test_processors_and_limits_are_the_programs_and_not_the_shims(bench: Bench) -> None:
    cpu = min(os.sched_getaffinity(0))
    confinement = {"cpus": [cpu], "limits": {"nofile": [100, 200], "core": 0}}
    script = "grep -E 'Cpus_allowed_list|Umask' /proc/self/status; grep -E 'open|core' "
    script += "/proc/self/limits | sed 's/ \\{2,\\}/:/'; grep . /proc/self/oom_score_adj | "
    script += "sed 's/^/adj:/'; echo up; sleep 600"
    child = bench.start(*sh(script), confinement=confinement, stop=PLAIN)
    assert os.sched_getaffinity(child.pid) == os.sched_getaffinity(0)
    bench.order(child, 0)
    bench.end(child)
    found = status(bench)
    assert (found["Cpus_allowed_list"], found["Umask"]) == (str(cpu), "0027")
    assert found["Max open files"].split()[:2] == ["100", "200"]
    assert found["Max core file size"].split()[:2] == ["0", "0"]
    assert found["adj"] == "0"


@needs_root
def test_the_program_is_its_account_and_gains_no_rights(open_bench: Bench) -> None:
    script = "echo again > /dev/stderr; "
    script += "grep -E 'Uid|Gid|Groups|NoNewPrivs|CapEff' /proc/self/status; "
    script += "touch $STOWPLAN_CONTROL/mine && echo mine; "
    script += f"cat {open_bench.directory}/intent.json"
    open_bench.run(*sh(script), confinement=account())
    found = status(open_bench)
    assert found["Uid"].split() == found["Gid"].split() == [str(ACCOUNT)] * 4
    assert found["Groups"] == str(ACCOUNT + 1)
    assert (found["NoNewPrivs"], int(found["CapEff"], 16)) == ("1", 0)
    assert open_bench.output().startswith("again\n")
    assert "\nmine\n" in open_bench.output()
    assert "Permission denied" in open_bench.output()


@needs_root
def test_a_program_with_an_account_dies_with_its_shim(open_bench: Bench) -> None:
    child = open_bench.start(*sh("echo up; exec sleep 600"), confinement=account())
    running = open_bench.spool.running(KEY)
    assert running is not None
    main = open_pidfd(running.main)
    assert main is not None
    send_signal(running.shim, signal.SIGKILL)
    child.wait(DEADLINE_SECONDS)
    assert select.select([main], [], [], DEADLINE_SECONDS)[0]
    os.close(main)


@needs_root
def test_an_account_that_cannot_reach_its_control_directory_is_told_so(bench: Bench) -> None:
    form = bench.run(*sh("echo ran"), confinement=account())
    assert form["reason"] == f"account {ACCOUNT} can't reach {bench.control}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_one_who_is_not_root_cannot_change_accounts(bench: Bench) -> None:
    assert "can't become account" in bench.run("true", confinement=account())["reason"]


@needs_root
def test_a_fork_bomb_at_its_limit_is_gone_when_it_is_stopped(open_bench: Bench) -> None:
    bomb = "trap '' TERM; bomb() { bomb | bomb & }; echo up; bomb 2>/dev/null; "
    bomb += "while :; do sleep 1; done 2>/dev/null"
    confinement = account(limits={"nproc": 150})
    child = open_bench.start(*sh(bomb), confinement=confinement, stop=PLAIN)
    open_bench.order(child, 0.05)
    assert open_bench.end(child)["signal"] == signal.SIGKILL
    assert open_bench.alive() == []


def test_a_program_that_the_kernel_killed_for_memory_is_known(
    bench: Bench, memory_cgroup: Path
) -> None:
    (memory_cgroup / "memory.limit_in_bytes").write_text(str(32 << 20))
    with suppress(OSError):
        (memory_cgroup / "memory.memsw.limit_in_bytes").write_text(str(32 << 20))
    confinement = {
        "cgroups": [str(memory_cgroup / "cgroup.procs")],
        "memory_events": str(memory_cgroup / "memory.oom_control"),
    }
    takes_much = (sys.executable, "-c", "x = bytearray(256 << 20)")
    form = bench.run(*takes_much, confinement=confinement)
    assert (form["signal"], form["oom"]) == (signal.SIGKILL, True)
    # The count stays with the group, and is not of the next attempt.
    (bench.directory / "exit.json").unlink()
    assert bench.run("true", confinement=confinement)["oom"] is False


def test_an_intent_of_an_agent_that_knew_nothing_of_this_is_run(bench: Bench) -> None:
    bench.intend(*sh("trap 'exit 8' TERM; echo up; while :; do sleep 0.02; done"))
    path = bench.directory / "intent.json"
    known = {"argv", "env", "working_dir", "lease", "allocation", "port"}
    old = {name: value for name, value in json.loads(path.read_text()).items() if name in known}
    path.write_text(json.dumps(old | {"grace_seconds": 20.0}))
    shutil.rmtree(bench.control, ignore_errors=True)
    child = bench.launch()
    bench.wait_for_output("up")
    whole = bench.directory / "stop.tmp"
    whole.write_text('{"grace_seconds": 600, "reason": "old words"}')
    whole.rename(bench.directory / "stop.json")  # at once: the shim looks by itself too
    child.send_signal(signal.SIGTERM)
    form = bench.end(child)
    assert (form["code"], form["stopped"], form["cause"]) == (8, True, None)
    assert form["reason"] == "old words"
