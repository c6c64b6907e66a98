"""What befalls machines and networks: each leaves one truth, told in words, and nothing doubled."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from protocol.report import AllocationState
from protocol.task import LeasePolicy
from tests.agent_node import Node, leave
from tests.agent_service import AgentService
from tests.waiting import wait_for

SLEEP = ("sh", "-c", "echo up; exec sleep 600")


def wanted(*argv: str, name: str = "a", **launch: object) -> DesiredAllocation:
    return DesiredAllocation(
        id=name,
        task="t1",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        launch=Launch.model_validate({"argv": argv, "grace_seconds": 20.0, **launch}),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )


def pid_of(service: AgentService, name: str = "a") -> int | None:
    return service.wait_for_state(name, AllocationState.RUNNING).pid


def identity(node: Node) -> tuple[Path, dict[str, object]]:
    [attempt] = node.attempts()
    path = attempt / "running.json"
    return path, json.loads(path.read_text())


def kill_everything(node: Node) -> None:
    """As a power cut does."""
    node.end()
    _, running = identity(node)
    for who in ("shim_pid", "pid"):
        os.kill(int(str(running[who])), signal.SIGKILL)
    wait_for(lambda: node.alive() == [], "nothing is left")


@pytest.mark.parametrize("agent_dies", [False, True])
def test_what_is_to_be_kept_outlives_twice_its_lease_without_a_service(
    service: AgentService, node: Node, agent_dies: bool
) -> None:
    service.lease_seconds = 1.0
    agent = node.start()
    service.desire(wanted(*SLEEP, on_lease_lost=LeasePolicy.KEEP))
    pid = pid_of(service)
    with service.changed:
        service.away = True
    if agent_dies:
        agent.kill()
    lease = json.loads((node.state / "lease.json").read_text())["until_seconds"]
    wait_for(
        lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > lease + 2, "the lease ran out, twice"
    )
    assert pid in node.alive()
    with service.changed:
        service.away = False
        service.reports.clear()
    if agent_dies:
        node.start()
    assert pid_of(service) == pid
    service.desire()
    assert service.wait_for_exit("a").cause is StopCause.UNWANTED


def test_a_reboot_is_told_as_such_and_nothing_starts_by_itself(
    service: AgentService, node: Node
) -> None:
    node.start()
    service.desire(wanted(*SLEEP))
    pid_of(service)
    kill_everything(node)
    path, running = identity(node)
    path.write_text(json.dumps({**running, "boot_id": "another-boot"}))
    lease = node.state / "lease.json"
    lease.write_text(json.dumps({**json.loads(lease.read_text()), "boot_id": "another-boot"}))
    agent = node.start()
    how = service.wait_for_exit("a")
    assert (how.lost, how.reason) == (True, "the node was rebooted while it ran")
    assert service.text("a") == "up\n", "it was not started again"
    assert leave(agent) == 0


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(
    service: AgentService, node: Node
) -> None:
    node.start()
    service.desire(wanted(*SLEEP))
    pid_of(service)
    kill_everything(node)
    path, running = identity(node)
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        path.write_text(json.dumps({**running, "pid": innocent.pid, "shim_pid": innocent.pid}))
        agent = node.start()
        how = service.wait_for_exit("a")
        assert how.lost
        assert leave(agent) == 0
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_sets_that_come_again_or_too_late_change_nothing(service: AgentService, node: Node) -> None:
    agent = node.start()
    first, second = wanted(*SLEEP), wanted(*SLEEP, name="b")
    service.desire()
    old = service.revision
    service.desire(first)
    service.desire(first, second)
    newest = service.revision
    pids = [pid_of(service), pid_of(service, "b")]
    with service.changed:  # an answer from before both, then the newest once more
        service.revision, service.desired = old, ()
        service.changed.notify_all()
        heard = len(service.reports)
    service.wait(lambda: len(service.reports) >= heard + 3, "it has had the old set for a while")
    with service.changed:
        service.revision, service.desired = newest, (first, second)
        service.changed.notify_all()
    service.desire(first)
    assert service.wait_for_exit("b").cause is StopCause.UNWANTED
    assert [pid_of(service), service.text("b")] == [pids[0], "up\n"]
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


@pytest.mark.parametrize(
    ("argv", "working_dir", "reason"),
    [
        (("no-such-program",), None, "no program 'no-such-program' on this node"),
        (("/etc/passwd",), None, "can't run '/etc/passwd': Permission denied"),
        (("true",), "/no/such/folder", "can't enter the working directory /no/such/folder"),
        (("true",), "/etc/hostname", "can't enter the working directory /etc/hostname"),
    ],
)
def test_what_cannot_be_started_says_why(
    service: AgentService, node: Node, argv: tuple[str], working_dir: str | None, reason: str
) -> None:
    agent = node.start()
    service.desire(wanted(*argv, working_dir=working_dir))
    how = service.wait_for_exit("a")
    assert (how.code, how.signal) == (None, None)
    assert reason in how.reason
    assert leave(agent) == 0
