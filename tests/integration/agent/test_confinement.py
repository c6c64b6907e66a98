"""What a real agent holds its tasks to, on this very machine, as far as it lets the agent."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.confining.accounts import find
from agent.confining.cgroups import detect, left_of
from agent.confining.confinement import sweep
from agent.confining.limits import Version
from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from protocol.report import AllocationState
from tests.agent_node import RUN_AGENT, Node, leave
from tests.agent_service import JOIN_TOKEN, AgentService
from tests.waiting import DEADLINE_SECONDS, wait_for

PYTHON = "/usr/bin/python3"
"""One that any account may run, unlike the tests' own."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives tasks another account")
needs_python = pytest.mark.skipif(not Path(PYTHON).exists(), reason=f"no {PYTHON}")


@pytest.fixture
def node(service: AgentService) -> Iterator[Node]:
    """Not below pytest's own directory: no other account may pass that."""
    folder = Path(tempfile.mkdtemp(prefix="node-"))
    folder.chmod(0o711)
    node = Node(service, folder)
    try:
        yield node
        node.end()
        assert node.alive() == [], node.log.read_text()
        assert left_of(node.state) == []
    finally:
        node.end()
        sweep(node.state, kill=True)
        shutil.rmtree(folder)


@pytest.fixture
def enforced() -> dict[str, Version]:
    """What can be enforced here, by the same look as the agent's."""
    return detect(Path("/nowhere")).enforced()


def wanted(
    script: str,
    *,
    argv: tuple[str, ...] = (),
    name: str = "a",
    generation: int = 1,
    memory_mib: int = 0,
    cpu_milli: int = 0,
    working_dir: str | None = None,
    pids_max: int | None = None,
) -> DesiredAllocation:
    return DesiredAllocation(
        id=name,
        task=f"task-of-{name}",
        task_name="train",
        generation=generation,
        phase=Phase.RUN,
        cpu_milli=cpu_milli,
        memory_mib=memory_mib,
        launch=Launch(
            argv=argv or ("sh", "-c", script),
            working_dir=working_dir,
            grace_seconds=1,
            pids_max=pids_max,
        ),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )


def python(script: str) -> tuple[str, ...]:
    return (PYTHON, "-I", "-c", script)


def need(enforced: dict[str, Version], *controllers: str) -> None:
    missing = [controller for controller in controllers if controller not in enforced]
    if missing:
        pytest.skip(f"this machine doesn't let us limit {', '.join(missing)}")


def group_of(pid: int, controller: str, version: Version) -> Path:
    """Where a process's group of this controller is, by the kernel's word."""
    of = "" if version is Version.V2 else controller
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    path = next(path for _, controllers, path in lines if of in controllers.split(","))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()
        if kind == "cgroup2" if version is Version.V2 else of in options.split(","):
            return Path(left.split()[4]) / path.lstrip("/")
    raise AssertionError(f"no tree of {controller}")


@needs_python
def test_a_task_that_takes_more_memory_than_it_asked_for_is_killed_and_told_why(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    need(enforced, "memory")
    agent = node.start()
    grab = python("x = bytearray(1 << 30); print('got it')")
    service.desire(wanted("", argv=grab, memory_mib=64))
    how = service.wait_for_exit("a")
    assert how.signal == signal.SIGKILL
    assert how.reason == "killed by the kernel: it used more than its 64 MiB of memory (memory_mib)"
    assert leave(agent) == 0


@needs_python
def test_a_fork_bomb_is_bounded(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    need(enforced, "pids")
    agent = node.start()
    bomb = python(
        "import os, time\n"
        "made = 0\n"
        "try:\n"
        "    while made < 500:\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(1000)\n"
        "        made += 1\n"
        "except BlockingIOError:\n"
        "    print('made', made, flush=True)\n"
    )
    service.desire(wanted("", argv=bomb, pids_max=20))
    assert service.wait_for_exit("a").code == 0
    assert service.text("a") == "made 19\n"
    assert leave(agent) == 0


def test_a_task_is_weighed_and_limited_as_it_asked_from_its_first_moment(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    need(enforced, "cpu", "memory", "pids")
    agent = node.start()
    service.desire(wanted("exec sleep 1000", cpu_milli=500, memory_mib=100, pids_max=30))
    pid = service.wait_for_state("a", AllocationState.RUNNING).pid
    assert pid is not None
    files = {
        ("cpu", Version.V2): ("cpu.weight", "50"),
        ("cpu", Version.V1): ("cpu.shares", "512"),
        ("memory", Version.V2): ("memory.max", str(100 << 20)),
        ("memory", Version.V1): ("memory.limit_in_bytes", str(100 << 20)),
        ("pids", Version.V2): ("pids.max", "30"),
        ("pids", Version.V1): ("pids.max", "30"),
    }
    for controller in ("cpu", "memory", "pids"):
        version = enforced[controller]
        file, value = files[controller, version]
        # It is told as running when it's known who it is; it joins right after, and only then does
        # the program begin.
        group = partial(group_of, pid, controller, version)
        wait_for(lambda group=group: group().name == "a", "it has joined")
        assert (group() / file).read_text().strip() == value
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_the_node_says_what_it_enforces(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    agent = node.start(labels={"zone": "a"})
    service.wait(lambda: service.registrations, "it has registered")
    labels = service.registrations[0][1].labels
    assert labels == {
        "zone": "a",
        "enforce.cpu": enforced.get("cpu", "none"),
        "enforce.memory": enforced.get("memory", "watch"),
        "enforce.pids": enforced.get("pids", "none"),
    }
    assert leave(agent) == 0


def test_what_a_killed_shim_left_is_killed_by_its_group_also_without_any_mark(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    agent = node.start()
    escape = "env -i setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 1000'"
    service.desire(wanted(f"{escape} & sleep 1000", working_dir=str(node.state)))
    service.wait_for_state("a", AllocationState.RUNNING)
    wait_for((node.state / "pid").exists, "it has escaped")
    escaped = int((node.state / "pid").read_text())
    if enforced and str(node.state) not in Path(f"/proc/{escaped}/environ").read_text():
        [attempt] = node.attempts()
        shim = json.loads((attempt / "running.json").read_text())["shim_pid"]
        os.kill(shim, signal.SIGKILL)
        assert service.wait_for_exit("a").lost
        wait_for(lambda: not Path(f"/proc/{escaped}").exists(), "it is gone")
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_a_new_attempt_finds_its_group_empty_and_is_counted_anew(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    agent = node.start()
    for generation in (1, 2, 3):
        service.desire(wanted("setsid sleep 1000 & exit 0", generation=generation))
        assert service.wait_for_exit("a", generation).code == 0
    wait_for(lambda: left_of(node.state) == [], "all is forgotten, and its groups with it")
    assert leave(agent) == 0


def test_groups_that_a_killed_agent_left_are_removed_by_the_next(
    service: AgentService, node: Node, enforced: dict[str, Version]
) -> None:
    if not enforced:
        pytest.skip("no control groups here")
    agent = node.start()
    service.desire(wanted("exec sleep 1000"))
    service.wait_for_state("a", AllocationState.RUNNING)
    agent.kill()
    agent.wait(DEADLINE_SECONDS)
    [left, *_] = left_of(node.state)
    (left / "of-nobody").mkdir()
    agent = node.start()
    wait_for(lambda: not (left / "of-nobody").exists(), "it is removed")
    assert (left / "a").exists()
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


# Accounts.


@needs_root
def test_tasks_run_as_the_account_that_they_were_given_and_as_nothing_more(
    service: AgentService, node: Node
) -> None:
    nobody = find("nobody")
    agent = node.start(task_account="nobody")
    script = (
        "id -u; id -g; id -G; echo $HOME $USER; pwd;"
        " echo mine > here && echo kept > $STOWPLAN_ARTIFACTS/kept && echo '{}' >"
        " $STOWPLAN_CONTROL/progress.json && echo wrote all"
    )
    service.desire(wanted(script))
    how = service.wait_for_exit("a")
    lines = service.text("a").splitlines()
    assert how.code == 0, lines
    assert lines[:3] == [str(nobody.uid), str(nobody.gid), " ".join(map(str, nobody.groups))]
    assert lines[3] == f"{nobody.home} nobody"
    assert lines[4] == str(node.state / "allocations/a/1/work")
    assert lines[5] == "wrote all"
    kept = node.state / "artifacts/task-of-a/kept"
    assert kept.stat().st_uid == nobody.uid
    assert leave(agent) == 0


@needs_root
def test_a_task_reads_nothing_of_the_agent_and_lists_no_other_task(
    service: AgentService, node: Node
) -> None:
    agent = node.start(task_account="nobody")
    root = node.state
    script = (
        f"for path in {root} {root}/allocations {root}/allocations/a {root}/allocations/a/1"
        f" {root}/artifacts {root}/samples; do ls $path 2>/dev/null; done;"
        f" cat {root}/token {root}/lease.json {root}/events.log {root}/allocations/a/1/intent.json"
        " {root}/agent.lock 2>/dev/null; echo read nothing"
    )
    service.desire(wanted(script))
    assert service.wait_for_exit("a").code == 0
    assert service.text("a") == "read nothing\n"
    assert stat.S_IMODE((root / "token").stat().st_mode) == 0o600
    assert leave(agent) == 0


@needs_root
def test_a_program_that_its_account_can_t_reach_is_said_so(
    service: AgentService, node: Node
) -> None:
    closed = node.state.parent / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy("/bin/true", closed / "program")
    agent = node.start(task_account="nobody")
    service.desire(wanted("", argv=(str(closed / "program"),)))
    how = service.wait_for_exit("a")
    assert (how.code, how.signal, how.lost) == (None, None, False)
    assert "Permission denied" in how.reason
    assert "nobody" in how.reason
    assert leave(agent) == 0


@needs_root
def test_root_runs_no_task_where_it_must_not_and_says_what_to_set(
    service: AgentService, node: Node
) -> None:
    agent = node.start(root_tasks="refuse")
    service.desire(wanted("echo never"))
    how = service.wait_for_exit("a")
    assert (how.code, how.signal, how.lost) == (None, None, False)
    assert "STOWPLAN_AGENT_TASK_ACCOUNT" in how.reason
    assert service.text("a") == ""
    assert leave(agent) == 0


@needs_root
def test_an_agent_whose_tasks_account_is_unknown_or_can_t_reach_its_state_does_not_start(
    service: AgentService, node: Node
) -> None:
    agent = node.start(task_account="stowplan-nowhere")
    assert agent.wait(DEADLINE_SECONDS) == 2
    assert "no account 'stowplan-nowhere'" in node.log.read_text()
    node.state.parent.chmod(0o700)
    agent = node.start(task_account="nobody")
    assert agent.wait(DEADLINE_SECONDS) == 2
    assert str(node.state.parent) in node.log.read_text()


# Directories and environment.


def test_a_task_begins_in_a_directory_of_its_own_and_what_it_keeps_goes_elsewhere(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    agent = node.start(artifacts_dir=str(tmp_path / "shared"))
    script = "ls -A; pwd; echo scratch > file; echo kept > $STOWPLAN_ARTIFACTS/kept"
    for name in "ab":
        service.desire(wanted(script, name=name))
        service.wait_for_exit(name)
    assert service.text("a") == f"{node.state}/allocations/a/1/work\n"
    assert service.text("b") == f"{node.state}/allocations/b/1/work\n"
    wait_for(lambda: node.attempts() == [], "both are forgotten, and their directories with them")
    kept = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("kept"))
    assert kept == ["shared/task-of-a/kept", "shared/task-of-b/kept"]
    assert leave(agent) == 0


def test_a_named_directory_is_begun_in(service: AgentService, node: Node, tmp_path: Path) -> None:
    agent = node.start()
    service.desire(wanted("pwd", working_dir=str(tmp_path)))
    service.wait_for_exit("a")
    assert service.text("a") == f"{tmp_path}\n"
    assert leave(agent) == 0


def test_a_shim_has_no_environment_at_all(service: AgentService, node: Node) -> None:
    agent = node.start()
    service.desire(wanted("exec sleep 1000"))
    service.wait_for_state("a", AllocationState.RUNNING)
    [attempt] = node.attempts()
    shim = json.loads((attempt / "running.json").read_text())["shim_pid"]
    assert Path(f"/proc/{shim}/environ").read_bytes() == b""
    service.desire()
    how = service.wait_for_exit("a")
    assert how.cause is StopCause.UNWANTED
    assert leave(agent) == 0


# Where nothing can be enforced.


@pytest.fixture
def plain_agent(service: AgentService, node: Node) -> Iterator[None]:
    """An agent without any rights, by an interpreter that its account can reach."""
    nobody = find("nobody")
    os.chown(node.state.parent, nobody.uid, nobody.gid)
    settings = {
        "server": service.url,
        "name": node.name,
        "join_token": JOIN_TOKEN,
        "state_dir": str(node.state),
        "nvml": False,
        "sample_interval_seconds": 0.2,
    }
    ours = str(Path(__file__).parents[3])
    path = os.pathsep.join([ours, *(p for p in sys.path if p.endswith("site-packages"))])
    with node.log.open("ab") as log:
        agent = subprocess.Popen(
            [PYTHON, "-c", RUN_AGENT, json.dumps(settings)],
            user=nobody.uid,
            group=nobody.gid,
            extra_groups=(),
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": "/"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )
    node.agents.append(agent)
    service.wait(
        lambda: service.registrations or agent.poll() is not None, "it has registered, or ended"
    )
    if not service.registrations:
        pytest.skip(f"{PYTHON} can't run an agent as nobody: {node.log.read_text()[-300:]}")
    yield
    assert leave(agent) == 0


@needs_root
@needs_python
@pytest.mark.usefixtures("plain_agent")
def test_an_agent_without_rights_says_that_it_only_watches_and_stops_who_takes_too_much(
    service: AgentService,
) -> None:
    labels = service.registrations[0][1].labels
    assert labels["enforce.memory"] == "watch"
    assert labels["enforce.pids"] == "none"
    grab = python(
        "import time; x = b'x' * (200 << 20); print('got it', flush=True); time.sleep(60)"
    )
    service.desire(wanted("", argv=grab, memory_mib=100))
    how = service.wait_for_exit("a")
    assert (how.stopped, how.cause) == (True, StopCause.OVERUSE)
    assert "MiB of memory and asked for 100 MiB" in how.reason
