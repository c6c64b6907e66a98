"""A node's beginning and end on its machine: the doctor's look at it, and its uninstallation."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.confining.cgroups import left_of
from agent.processes import lock_holder
from protocol.desired import StopCause
from tests.agent_node import Node, leave, sh, wanted
from tests.agent_service import JOIN_TOKEN, AgentService


def stowplan(node: Node, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STOWPLAN_")}
    command = [
        sys.executable, "-m", "client.cli", "agent", *arguments,
        "--server", node.service.url, "--name", node.name, "--state-dir", str(node.state),
    ]  # fmt: skip
    return subprocess.run(
        command,
        env=environment | {"STOWPLAN_HOME": str(node.state.parent / "home"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=160,
    )


TRAP = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"


def start_task(service: AgentService, node: Node, script: str = TRAP, **task: Any) -> int:
    """An agent with a running task; its pid."""
    agent = node.start()
    service.desire(wanted(*sh(script), **task))
    service.wait(lambda: "up" in service.text("a"), "the task runs")
    return agent.pid


def kill_agent(node: Node) -> None:
    node.agents[-1].kill()
    node.agents[-1].wait()


def test_uninstalling_stops_the_tasks_tells_the_service_and_leaves_nothing(
    service: AgentService, node: Node
) -> None:
    start_task(service, node)
    kill_agent(node)
    assert node.alive()
    done = stowplan(node, "uninstall")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "stopping train (a)" in done.stderr
    assert "the service knows how its tasks have ended" in done.stderr
    how = service.wait_for_exit("a")
    assert (how.stopped, how.cause, how.lost) == (True, StopCause.LEFT, False)
    assert service.text("a").endswith("saved\n")
    assert node.alive() == []
    assert not node.state.exists()
    assert left_of(node.state) == []


def test_what_tasks_have_made_is_kept_unless_it_is_to_go(service: AgentService, node: Node) -> None:
    start_task(service, node, f'touch "$STOWPLAN_ARTIFACTS/made"; {TRAP}')
    kill_agent(node)
    done = stowplan(node, "uninstall")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in node.state.iterdir()] == ["artifacts"]
    assert list(node.state.glob("artifacts/*/made"))
    assert "--purge" in done.stderr
    done = stowplan(node, "uninstall", "--purge")
    assert done.returncode == 0, done.stderr
    assert not node.state.exists()
    assert stowplan(node, "uninstall").returncode == 0


def test_an_agent_that_runs_is_not_uninstalled_by_mistake(
    service: AgentService, node: Node
) -> None:
    pid = start_task(service, node)
    assert lock_holder(node.state / "agent.lock") == pid
    refused = stowplan(node, "uninstall")
    assert refused.returncode == 1
    assert f"the agent with pid {pid} runs on {node.state}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert node.agents[-1].poll() is None
    assert len(node.alive()) > 0
    done = stowplan(node, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert node.agents[-1].wait(30) == 0
    assert node.alive() == []
    assert not node.state.exists()


def test_a_task_that_defies_its_end_is_gone_all_the_same(service: AgentService, node: Node) -> None:
    start_task(service, node, "trap '' TERM; echo up; while :; do sleep 0.1; done", grace_seconds=1)
    kill_agent(node)
    done = stowplan(node, "uninstall")
    assert done.returncode == 0, done.stderr
    assert node.alive() == []
    how = service.wait_for_exit("a")
    assert (how.signal, how.cause) == (9, StopCause.LEFT)


def test_without_the_service_tasks_are_ended_in_order_too(
    service: AgentService, node: Node
) -> None:
    start_task(service, node, f'touch "$STOWPLAN_ARTIFACTS/made"; {TRAP}')
    kill_agent(node)
    service.away = True
    done = stowplan(node, "uninstall")
    assert done.returncode == 0, done.stderr
    assert "the service wasn't told" in done.stderr
    assert node.alive() == []


# The doctor.


def examined(node: Node, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = stowplan(node, "doctor", "-o", "json", **variables)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert all(one["mend"] for one in found if one["grade"] != "ok"), "each says how to mend it"
    return done.returncode, {one["what"]: one for one in found}


QUICK = {"STOWPLAN_AGENT_TASK_PATH": "/nowhere", "STOWPLAN_AGENT_NVML": "false"}
"""Without importing torch."""


def test_the_doctor_finds_a_running_agent_well_and_disturbs_nothing(
    service: AgentService, node: Node
) -> None:
    pid = start_task(service, node)
    code, found = examined(node, **QUICK)
    assert code == 0, found
    assert found["state directory"]["grade"] == "ok"
    assert f"used by the agent with pid {pid}" in found["state directory"]["found"]
    assert found["token"] == {
        "grade": "ok", "what": "token", "found": "the service knows this node as n1", "mend": "",
    }  # fmt: skip
    assert found["service"]["grade"] == "ok"
    assert "1 attempts that aren't over" in found["leftovers"]["found"]
    assert node.agents[-1].poll() is None
    done = stowplan(node, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr


def test_the_doctor_names_what_a_killed_agent_left(service: AgentService, node: Node) -> None:
    start_task(service, node)
    kill_agent(node)
    _, found = examined(node, **QUICK)
    assert found["leftovers"]["grade"] == "warn"
    assert "processes of tasks, 1 attempts that aren't over" in found["leftovers"]["found"]
    assert "uninstall" in found["leftovers"]["mend"]
    assert node.alive(), "it looks, and ends nothing"
    assert stowplan(node, "uninstall").returncode == 0


def test_the_doctor_fails_a_machine_that_can_be_no_node(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    node.service.url = "http://127.0.0.1:9"
    (tmp_path / "file").touch()
    node.state = tmp_path / "file" / "none"
    code, found = examined(
        node, STOWPLAN_AGENT_TASK_ACCOUNT="nobody-of-this-name", STOWPLAN_HOME=str(tmp_path),
        **QUICK,
    )  # fmt: skip
    assert code == 1
    failed = {what for what, one in found.items() if one["grade"] == "fail"}
    assert failed == {"state directory", "service", "token", "account"}
    assert "ConnectError" in found["service"]["found"]
    assert "join-token create" in found["token"]["mend"]


def test_the_doctor_tells_a_void_token_from_a_missing_one(
    service: AgentService, node: Node
) -> None:
    agent = node.start()
    service.wait(lambda: bool(service.reports), "the agent reports")
    assert leave(agent) == 0
    (node.state / "token").write_text("stow_node_of_another_service")
    code, found = examined(node, **QUICK)
    assert (code, found["token"]["grade"]) == (1, "fail")
    assert "join anew" in found["token"]["mend"]
    (node.state / "token").unlink()
    _, found = examined(node, STOWPLAN_AGENT_JOIN_TOKEN=JOIN_TOKEN, **QUICK)
    assert found["token"]["found"] == "not joined yet; there is a join token"


def test_the_doctor_prints_a_table(service: AgentService, node: Node) -> None:
    done = stowplan(node, "doctor", **QUICK)
    assert done.stdout.splitlines()[0].split() == ["CHECK", "STATE", "FOUND", "MEND"]
    assert done.returncode == 1, "it has no token"


def test_the_doctor_asks_the_python_of_tasks_for_torch(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    python = folder / "python"
    python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named torch' >&2; exit 1\n")
    python.chmod(0o755)
    quick = {**QUICK, "STOWPLAN_AGENT_TASK_PATH": str(folder)}
    _, found = examined(node, **quick)
    assert found["torch"]["grade"] == "warn"
    assert "No module named torch" in found["torch"]["found"]
    python.write_text("#!/bin/sh\necho 2.13.0 cpu 0\n")
    _, found = examined(node, **quick)
    assert found["torch"]["found"] == f"torch 2.13.0 (cpu, 0 devices) of {python}"


def test_systemd_hears_when_the_agent_is_ready(
    service: AgentService, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = tmp_path / "notify"
        listener.bind(str(path))
        listener.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        agent = node.start()
        assert listener.recv(100) == b"READY=1"
    service.desire(wanted(*sh("echo up; env")))
    service.wait_for_exit("a")
    assert "NOTIFY_SOCKET" not in service.text("a")
    assert leave(agent) == 0


def test_a_reset_agent_lock_has_no_holder(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").touch()
    assert lock_holder(tmp_path / "agent.lock") is None
    assert lock_holder(tmp_path / "none") is None
