"""A gang over three hosts loses one to a dead network, and goes on elsewhere from its checkpoint.

The host that was cut off runs the rank that publishes, in the middle of saving: nobody can stop it,
and it goes on. What it saves must never be published once the next attempt has begun.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from client.sdk import Client
from client.training import latest_in
from tests.agent_node import RUN_AGENT
from tests.command import Installation, processes_of
from tests.networks import Network, namespaces_refused, network
from tests.waiting import wait_for

HOSTS = ["h1", "h2", "h3", "h4"]
RANKS = 3
STEPS_AFTER = 20
_SECONDS = 90.0
_SETTINGS = {
    "STOWPLAN_LEASE_SECONDS": "6",
    "STOWPLAN_LEASE_MARGIN_SECONDS": "3",
    "STOWPLAN_UNREACHABLE_AFTER_SECONDS": "2",
}

# Each step adds 1 + 2 + 3. The first attempt doesn't end by itself; its publishing rank, once the
# network is cut, saves for as long as it takes until the next attempt has saved.
PROGRAM = """\
import datetime, json, os, pathlib, sys, time
import torch
import torch.distributed as dist
from client.training import StaleGenerationError, Training

shared, after = pathlib.Path(sys.argv[1]), int(sys.argv[2])
run = Training(shared / "checkpoints", keep=100)

def note(what, **more):
    with (shared / "notes").open("a") as file:
        file.write(json.dumps({"what": what, "generation": run.generation, **more}) + "\\n")

def save_for_long(state):
    note("goes on", pid=os.getpid())
    for _ in range(2):
        try:
            with run.saving(state["step"] + 1) as path:
                torch.save({"step": -1, "sum": -1.0}, path)
                while not (shared / "restarted").exists():
                    time.sleep(0.05)
            note("published")
        except StaleGenerationError:
            note("refused")
    time.sleep(600)

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=6))
found = run.latest()
state = torch.load(found.path) if found else {"step": 0, "sum": 0.0}
if dist.get_rank() == 0:
    note("begins", step=state["step"])
dist.barrier()
last = None if run.generation == 1 else state["step"] + after
while state["step"] != last:
    if run.generation == 1 and dist.get_rank() == 0 and (shared / "cut").exists():
        save_for_long(state)
    total = torch.tensor([dist.get_rank() + 1.0])
    dist.all_reduce(total)
    state = {"step": state["step"] + 1, "sum": state["sum"] + total.item()}
    run.step(state["step"])
    if dist.get_rank() == 0 and state["step"] % 5 == 0:
        with run.saving(state["step"]) as path:
            torch.save(state, path)
    time.sleep(0.05)
if dist.get_rank() == 0:
    note("ends", **state)
dist.destroy_process_group()
"""


class Hosts:
    """A service, and an agent on each host."""

    def __init__(self, installation: Installation, net: Network, shared: Path) -> None:
        self.shared = shared
        self._installation = installation
        self._net = net
        self._agents: list[subprocess.Popen[bytes]] = []

    def join(self, host: str) -> None:
        form = {
            "server": self._net.server(host),
            "name": host,
            "join_token": (self._installation.home / "join.token").read_text().strip(),
            "state_dir": str(self.state_dir(host)),
            "artifacts_dir": str(self.shared / "artifacts"),
            "nvml": False,
            "simulated_devices": "1",
            "root_tasks": "allow",
        }
        with (self._installation.root / f"{host}.log").open("ab") as log:
            self._agents.append(
                subprocess.Popen(
                    [*self._net.on(host), sys.executable, "-c", RUN_AGENT, json.dumps(form)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def state_dir(self, host: str) -> Path:
        return self._installation.root / host

    def running_on(self, host: str) -> list[str]:
        """The processes of tasks there."""
        return processes_of(self.state_dir(host) / "allocations")

    def notes(self, what: str) -> list[dict[str, Any]]:
        path = self.shared / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [note for note in map(json.loads, lines) if note["what"] == what]

    def end(self) -> None:
        """All of it, also where nobody reaches its agent any more."""
        for agent in self._agents:
            agent.terminate()
        for agent in self._agents:
            with suppress(subprocess.TimeoutExpired):
                agent.wait(10)
            agent.kill()
            agent.wait()
        wait_for(lambda: not self._kill_tasks(), "the tasks are gone")

    def _kill_tasks(self) -> bool:
        """False when there were none any more."""
        left = [words for host in HOSTS for words in processes_of(self.state_dir(host))]
        for words in left:
            with suppress(ProcessLookupError):
                os.kill(int(words.split()[0]), signal.SIGKILL)
        return bool(left)


@pytest.fixture(params=["namespaces", "relays"])
def hosts(
    request: pytest.FixtureRequest, installation: Installation, tmp_path: Path
) -> Iterator[tuple[Hosts, Network]]:
    """The service, three agents, and room for a fourth."""
    refused = namespaces_refused()
    if request.param == "namespaces" and refused:
        pytest.skip(f"no network namespaces: {refused}")
    if request.param == "relays" and not refused:
        pytest.skip("this machine permits network namespaces, which show the same and more")
    installation.environment |= _SETTINGS
    installation.serve()
    shared = tmp_path / "shared"
    shared.mkdir()
    with network(request.param, HOSTS, installation.port) as net:
        hosts = Hosts(installation, net, shared)
        try:
            for host in HOSTS[:RANKS]:
                hosts.join(host)
            with installation.client() as stowplan:
                _wait_for_nodes(stowplan, RANKS)
            yield hosts, net
        finally:
            hosts.end()


def _wait_for_nodes(stowplan: Client, count: int) -> None:
    wait_for(lambda: len(list(stowplan.nodes())) == count, f"{count} nodes join", 60)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("policy", ["fence", "keep"])
def test_a_gang_that_loses_a_host_goes_on_elsewhere_and_the_lost_copy_publishes_nothing(
    hosts: tuple[Hosts, Network], installation: Installation, tmp_path: Path, policy: str
) -> None:
    world, net = hosts
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    checkpoints = world.shared / "checkpoints"
    with installation.client() as stowplan:
        task = stowplan.submit(
            {
                "name": "gang",
                "argv": [sys.executable, str(program), str(world.shared), str(STEPS_AFTER)],
                "env": {**net.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
                "replicas": RANKS,
                "spread_over": "node",
                "request": {"gpus": 1},
                "grace_seconds": 0.5,
                "on_lease_lost": policy,
            }
        )["id"]
        wait_for(lambda: latest_in(checkpoints) is not None, "a first checkpoint", _SECONDS)
        first = {a["rank"]: a["node"] for a in stowplan.task(task)["allocations"]}
        assert sorted(first.values()) == HOSTS[:RANKS]
        lost = first[0]
        world.join(HOSTS[RANKS])
        _wait_for_nodes(stowplan, RANKS + 1)

        (world.shared / "cut").touch()
        wait_for(lambda: bool(world.notes("goes on")), "the publishing rank is saving")
        net.cut(lost)
        before = latest_in(checkpoints)
        assert before is not None
        if policy == "keep":
            wait_for(
                lambda: stowplan.node(lost)["state"] == "unreachable", "its silence is noticed"
            )
            stowplan.declare_lost(lost)
        wait_for(lambda: _generation(checkpoints) == 2, "the next attempt has saved", _SECONDS)
        # The lost copy was stopped by its own shim, or is still in the middle of it.
        assert bool(world.running_on(lost)) == (policy == "keep")
        (world.shared / "restarted").touch()
        view = stowplan.wait(task)
        if policy == "keep":
            wait_for(lambda: len(world.notes("refused")) == 2, "the lost copy is refused, twice")

        assert (view["state"], view["generation"], view["failures"]) == ("succeeded", 2, 0)
        assert sorted(a["node"] for a in view["allocations"]) == sorted({*HOSTS} - {lost})
        assert world.notes("published") == []
        begun = [note["step"] for note in world.notes("begins")]
        assert begun == [0, before.step]
        [end] = world.notes("ends")
        assert (end["step"], end["sum"]) == (before.step + STEPS_AFTER, 6.0 * end["step"])
        newest = latest_in(checkpoints)
        assert newest is not None
        assert (newest.generation, newest.step) == (2, end["step"])

        net.mend(lost)
        wait_for(lambda: not world.running_on(lost), "what came back is stopped")
        wait_for(lambda: stowplan.node(lost)["state"] == "ready", "its node is back")


def _generation(checkpoints: Path) -> int:
    found = latest_in(checkpoints)
    return found.generation if found else 0
