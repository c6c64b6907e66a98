"""The agent as a process, against a service that the test scripts."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from protocol.desired import Gang, Phase
from protocol.report import AllocationState
from tests.agent_node import Node, leave, sh, wanted
from tests.agent_service import JOIN_TOKEN, NODE_TOKEN, AgentService
from tests.waiting import DEADLINE_SECONDS, wait_for


def test_it_joins_runs_a_task_ships_its_output_and_reports_its_exit(
    service: AgentService, node: Node
) -> None:
    agent = node.start(labels={"zone": "a"}, simulated_devices="2xA100:40960")
    service.desire(wanted(*sh("echo hello; echo oops >&2; exit 3")))
    how = service.wait_for_exit("a")
    assert (how.code, how.signal, how.stopped, how.lost) == (3, None, False, False)
    assert how.reason == "exited with code 3; its last line: oops"
    assert service.text("a") == "hello\noops\n"
    service.wait(lambda: service.last("a") is None, "the settled exit is reported no more")
    wait_for(lambda: node.attempts() == [], "the settled attempt is forgotten")
    [(token, form)] = service.registrations
    assert (token, form.labels["zone"], form.address) == (JOIN_TOKEN, "a", "127.0.0.1")
    assert [device.uuid for device in form.inventory.devices] == ["SIM-n1-0", "SIM-n1-1"]
    assert (node.state / "token").read_text() == NODE_TOKEN
    assert (node.state / "token").stat().st_mode & 0o777 == 0o600
    assert leave(agent) == 0
    assert JOIN_TOKEN not in node.log.read_text()
    assert NODE_TOKEN not in node.log.read_text()


def test_a_task_gets_its_devices_its_rendezvous_and_no_secret(
    service: AgentService, node: Node
) -> None:
    agent = node.start(simulated_devices="1")
    gang = Gang(rank=0, size=1, master_address="127.0.0.1")
    service.desire(wanted("env", env={"COLOUR": "red", "RANK": "9"}, devices=("GPU-x",), gang=gang))
    service.wait_for_exit("a")
    found = dict(line.split("=", 1) for line in service.text("a").splitlines())
    assert (found["COLOUR"], found["RANK"], found["WORLD_SIZE"]) == ("red", "0", "1")
    assert (found["CUDA_VISIBLE_DEVICES"], found["STOWPLAN_DEVICES"]) == ("GPU-x", "GPU-x")
    assert found["MASTER_PORT"] == found["PORT"] == found["STOWPLAN_PORT"]
    assert not [
        name for name, value in found.items() if "token" in name.lower() or "secret" in value
    ]
    assert "STOWPLAN_AGENT_SECRET" not in found
    assert leave(agent) == 0


def test_a_gang_waits_ready_then_starts_together(
    service: AgentService, tmp_path: Path, node: Node
) -> None:
    agent = node.start()
    prepare = [
        wanted(
            *sh("echo $RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $PORT"),
            name=name,
            phase=Phase.PREPARE,
            gang=Gang(rank=rank, size=2, master_address="127.0.0.1"),
        )
        for rank, name in enumerate("ab")
    ]
    service.desire(*prepare)
    ports = [service.wait_for_state(name, AllocationState.READY).port for name in "ab"]
    assert service.output == {}
    run = [
        one.model_copy(
            update={
                "phase": Phase.RUN,
                "gang": one.gang.model_copy(update={"master_port": ports[0]}),
            }
        )
        for one in prepare
    ]
    service.desire(*run)
    assert [service.wait_for_exit(name).code for name in "ab"] == [0, 0]
    assert service.text("a") == f"0/2 127.0.0.1:{ports[0]} {ports[0]}\n"
    assert service.text("b") == f"1/2 127.0.0.1:{ports[0]} {ports[1]}\n"
    assert leave(agent) == 0


def test_a_port_is_kept_from_others_until_the_task_has_it(
    service: AgentService, node: Node
) -> None:
    agent = node.start()
    gang = Gang(rank=0, size=2, master_address="127.0.0.1")
    service.desire(wanted("true", phase=Phase.PREPARE, gang=gang))
    port = service.wait_for_state("a", AllocationState.READY).port
    assert port is not None
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    serve = "import os, socket; s = socket.socket(); s.bind(('', int(os.environ['PORT'])))"
    service.desire(wanted("python", "-c", serve, gang=gang))
    assert service.wait_for_exit("a").code == 0
    assert leave(agent) == 0


def test_an_order_to_stop_gives_the_task_its_grace(service: AgentService, node: Node) -> None:
    agent = node.start()
    task = wanted(*sh("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"))
    service.desire(task)
    service.wait(lambda: "up" in service.text("a"), "the task is up")
    service.desire()
    how = service.wait_for_exit("a")
    assert (how.code, how.stopped) == (0, True)
    assert "no longer wanted" in how.reason
    assert service.text("a") == "up\nsaved\n"
    assert leave(agent) == 0


def test_a_killed_agent_finds_its_task_again_and_the_exit_is_not_lost(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = node.start()
    service.desire(wanted(*sh(f"echo $$; cat {gate}; exit 6")))
    pid = service.wait_for_state("a", AllocationState.RUNNING).pid
    first.kill()
    first.wait(DEADLINE_SECONDS)
    wait_for(lambda: node.alive() != [], "the task runs without its agent")
    reports = len(service.reports)
    second = node.start()
    service.wait(lambda: len(service.reports) > reports, "the second agent reports")
    assert service.wait_for_state("a", AllocationState.RUNNING).pid == pid
    gate.write_text("go\n")
    assert service.wait_for_exit("a").code == 6
    assert service.text("a") == f"{pid}\ngo\n"
    assert [token for token, _ in service.registrations] == [JOIN_TOKEN, NODE_TOKEN]
    assert leave(second) == 0


def test_an_exit_while_no_agent_was_there_is_reported_by_the_next(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    first = node.start()
    service.desire(wanted(*sh(f"cat {gate}; exit 6")))
    service.wait_for_state("a", AllocationState.RUNNING)
    first.kill()
    first.wait(DEADLINE_SECONDS)
    gate.write_text("go\n")
    wait_for(lambda: node.alive() == [], "the task has ended")
    second = node.start()
    assert service.wait_for_exit("a").code == 6
    assert service.text("a") == "go\n"
    assert leave(second) == 0


def test_an_exit_is_repeated_until_settled_and_the_task_not_run_again(
    service: AgentService, node: Node
) -> None:
    service.settles = False
    first = node.start()
    service.desire(wanted(*sh("echo ran")))
    service.wait_for_exit("a")
    first.kill()
    first.wait(DEADLINE_SECONDS)
    said = len(service.exits["a", 1])
    second = node.start()
    service.wait(lambda: len(service.exits["a", 1]) > said + 1, "the exit is repeated")
    service.settles = True
    wait_for(lambda: node.attempts() == [], "the settled attempt is forgotten")
    assert service.text("a") == "ran\n"
    assert leave(second) == 0


def test_a_killed_shim_leaves_nothing_running_and_a_lost_allocation(
    service: AgentService, node: Node
) -> None:
    agent = node.start()
    service.desire(wanted(*sh("setsid sh -c 'echo up; exec sleep 600' & wait")))
    service.wait(lambda: "up" in service.text("a"), "the task is up")
    [attempt] = node.attempts()
    identity = json.loads((attempt / "running.json").read_text())
    os.kill(identity["shim_pid"], signal.SIGKILL)
    how = service.wait_for_exit("a")
    assert (how.lost, how.code, how.signal) == (True, None, None)
    assert "shim was killed" in how.reason
    assert node.alive() == []
    assert leave(agent) == 0


def test_a_new_generation_starts_after_the_old_one_is_gone(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    agent = node.start()
    marker = tmp_path / "running"
    once = f"mkdir {marker} || exit 9; trap 'sleep 0.3; rmdir {marker}; exit 0' TERM; echo up; "
    script = once + "while :; do sleep 0.05; done"
    service.desire(wanted(*sh(script)))
    service.wait(lambda: service.text("a") == "up\n", "the first is up")
    service.settles = False
    service.desire(wanted(*sh(script), generation=2))
    service.wait(lambda: service.text("a", 2) == "up\n", "the second is up")
    assert service.exits["a", 1][0].stopped
    service.desire()
    assert service.wait_for_exit("a", 2).code == 0
    service.settles = True
    assert leave(agent) == 0


def test_an_unreachable_service_is_waited_for_and_the_task_goes_on(
    service: AgentService, node: Node
) -> None:
    agent = node.start()
    service.desire(wanted(*sh("echo up; sleep 600")))
    before = service.wait_for_state("a", AllocationState.RUNNING).pid
    with service.changed:
        service.away = True
    wait_for(lambda: "service not reached" in node.log.read_text(), "the agent notices")
    with service.changed:
        service.away = False
        service.reports.clear()
    assert service.wait_for_state("a", AllocationState.RUNNING).pid == before
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_a_node_whose_lease_runs_out_stops_its_tasks_by_itself(
    service: AgentService, node: Node
) -> None:
    service.lease_seconds = 1.0
    agent = node.start()
    service.desire(wanted(*sh("echo up; exec sleep 600")))
    service.wait_for_state("a", AllocationState.RUNNING)
    with service.changed:
        service.away = True
    wait_for(lambda: node.alive() == [], "the task was stopped")
    with service.changed:
        service.away = False
    how = service.wait_for_exit("a")
    assert how.stopped
    assert "lease expired" in how.reason
    assert leave(agent) == 0


def test_a_task_whose_agent_died_ends_with_the_lease(service: AgentService, node: Node) -> None:
    service.lease_seconds = 2.0
    agent = node.start()
    service.desire(wanted(*sh("echo up; exec sleep 600")))
    service.wait_for_state("a", AllocationState.RUNNING)
    agent.kill()
    agent.wait()
    wait_for(lambda: node.alive() == [], "the shim kept to the lease")
    service.lease_seconds = 300.0
    again = node.start()
    how = service.wait_for_exit("a")
    assert how.stopped
    assert "lease expired" in how.reason
    assert leave(again) == 0


def test_a_task_goes_on_while_its_agent_renews_the_lease(service: AgentService, node: Node) -> None:
    service.lease_seconds = 5.0
    agent = node.start()
    service.desire(wanted(*sh("trap 'exit 3' USR1; echo up; while :; do sleep 0.05; done")))
    service.wait_for_state("a", AllocationState.RUNNING)
    first = json.loads((node.state / "lease.json").read_text())["until_seconds"]
    wait_for(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > first + 1, "the first lease is over")
    pid = service.wait_for_state("a", AllocationState.RUNNING).pid
    assert pid is not None
    os.kill(pid, signal.SIGUSR1)
    how = service.wait_for_exit("a")
    assert (how.code, how.stopped) == (3, False)
    assert leave(agent) == 0


def test_an_agent_that_leaves_lets_its_tasks_go_on(service: AgentService, node: Node) -> None:
    first = node.start()
    service.desire(wanted(*sh("echo up; exec sleep 600")))
    pid = service.wait_for_state("a", AllocationState.RUNNING).pid
    assert leave(first) == 0
    assert pid in node.alive()
    second = node.start()
    service.desire()
    service.wait_for_exit("a")
    assert leave(second) == 0


def test_an_agent_that_takes_its_tasks_along_reports_their_exits(
    service: AgentService, node: Node
) -> None:
    agent = node.start(stop_tasks_on_exit=True)
    service.desire(
        wanted(*sh("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep .05; done"))
    )
    service.wait(lambda: "up" in service.text("a"), "the task is up")
    assert leave(agent) == 0
    assert service.exits["a", 1][0].stopped
    assert service.text("a") == "up\nsaved\n"
    assert node.alive() == []


def test_a_second_signal_kills_tasks_that_do_not_want_to_go(
    service: AgentService, node: Node
) -> None:
    agent = node.start(stop_tasks_on_exit=True)
    task = wanted(*sh("trap : TERM; echo up; while :; do sleep 1; done"), grace_seconds=600.0)
    service.desire(task)
    service.wait(lambda: "up" in service.text("a"), "the task is up")
    agent.terminate()
    service.wait_for_state("a", AllocationState.STOPPING)
    agent.terminate()
    assert agent.wait(DEADLINE_SECONDS) == 0
    assert service.exits["a", 1][0].signal == signal.SIGKILL
    assert node.alive() == []


@pytest.mark.parametrize("status", [401, 403, 409, 426])
def test_a_refused_node_says_why_and_ends(service: AgentService, node: Node, status: int) -> None:
    service.refusal = (status, "this node is not welcome")
    assert node.start().wait(DEADLINE_SECONDS) == 1
    assert "this node is not welcome" in node.log.read_text()


def test_a_service_of_another_version_is_refused(service: AgentService, node: Node) -> None:
    service.version = 99
    assert node.start().wait(DEADLINE_SECONDS) == 1
    assert "version 99" in node.log.read_text()


def test_an_agent_without_token_says_where_to_get_one(service: AgentService, node: Node) -> None:
    assert node.start(join_token=None).wait(DEADLINE_SECONDS) == 2
    assert "--join-token" in node.log.read_text()


def test_a_second_agent_with_the_same_state_directory_refuses(
    service: AgentService, node: Node
) -> None:
    first = node.start()
    service.wait(lambda: bool(service.registrations), "the first has joined")
    assert node.start().wait(DEADLINE_SECONDS) == 2
    assert "another agent uses" in node.log.read_text()
    assert leave(first) == 0


def test_a_missing_program_is_a_reason_and_not_a_hang(service: AgentService, node: Node) -> None:
    agent = node.start()
    service.desire(wanted("no-such-program"))
    how = service.wait_for_exit("a")
    assert (how.code, how.signal) == (None, None)
    assert "no program 'no-such-program' on this node" in how.reason
    assert leave(agent) == 0


def test_much_output_arrives_whole(service: AgentService, node: Node) -> None:
    agent = node.start()
    service.desire(wanted("python", "-c", "for i in range(200_000): print(i)"))
    service.wait_for_exit("a")
    assert service.text("a").splitlines() == [str(i) for i in range(200_000)]
    assert leave(agent) == 0
