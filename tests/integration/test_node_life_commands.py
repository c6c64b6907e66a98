"""A node's life from the command line, with a real service, a real agent and real tasks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Installation, nothing_left
from tests.waiting import wait_for

TRAINS = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"
DEFIES = "trap '' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A service without a permanent join token, and one node that has joined with another."""
    installation = Installation(tmp_path_factory.mktemp("life") / "stowplan")
    installation.environment |= {
        "STOWPLAN_REUSABLE_JOIN_TOKEN": "false",
        "STOWPLAN_UNREACHABLE_AFTER_SECONDS": "1",
    }
    try:
        installation.serve()
        made = installation.run("join-token", "create")
        assert made.returncode == 0, made.stderr
        installation.environment["STOWPLAN_AGENT_JOIN_TOKEN"] = made.stdout.strip()
        installation.join("node-a")
        yield installation
    finally:
        installation.close()
    nothing_left(installation.root)


def running_task(installation: Installation, script: str, *options: str) -> str:
    task = installation.run("submit", "--gpus", "1", *options, "sh", "-c", script).stdout.strip()
    wait_for(lambda: installation.ask("show", task)["state"] == "running", "the task runs")
    wait_for(lambda: "up" in installation.run("logs", task).stdout, "it's ready to be stopped")
    return task


def node(installation: Installation) -> dict[str, object]:
    return next(one for one in installation.ask("nodes") if one["name"] == "node-a")


def test_a_join_token_is_used_up_by_the_node_that_joins(installation: Installation) -> None:
    [token] = installation.ask("join-token", "list")
    assert (token["uses_left"], token["last_node"]) == (0, "node-a")
    assert "used up" in installation.run("join-token", "list").stdout
    late = installation.run(
        "agent", "--name", "node-b", "--no-nvml", "--state-dir", str(installation.root / "b")
    )
    assert late.returncode == 1
    assert "this join token is used up" in late.stderr
    assert installation.environment["STOWPLAN_AGENT_JOIN_TOKEN"] not in late.stderr


def test_a_join_token_is_revoked(installation: Installation) -> None:
    made = installation.ask("join-token", "create", "--uses", "3", "--hours", "0.5")
    assert installation.run("join-token", "revoke", made["id"]).returncode == 0
    gone = installation.run("join-token", "revoke", made["id"])
    assert (gone.returncode, gone.stdout) == (1, "")
    assert made["id"] in gone.stderr
    refused = installation.run("join-token", "create", "--uses", "0")
    assert refused.returncode == 2
    assert "uses" in refused.stderr


def test_a_drain_that_is_waited_for_leaves_nothing_there(installation: Installation) -> None:
    task = running_task(installation, TRAINS)
    done = installation.run("drain", "node-a", "--reason", "new disk", "--wait")
    assert done.returncode == 0, done.stderr
    assert "1 task (sh) to leave by" in done.stderr
    assert "node-a is drained: no task is left on it" in done.stderr
    assert installation.run("logs", task).stdout.endswith("saved\n")
    seen = installation.ask("show", task)
    assert seen["state"] == "pending"
    assert "drained" in seen["reason"]
    table = installation.run("nodes").stdout
    assert "ready,cordoned" in table
    assert "[new disk]" in table
    assert installation.run("undrain", "node-a").returncode == 0
    wait_for(lambda: installation.ask("show", task)["generation"] == 2, "it runs again")
    assert installation.run("cancel", task).returncode == 0
    assert installation.run("wait", task).returncode == 1


def test_what_defies_a_drain_is_killed_at_its_deadline(installation: Installation) -> None:
    task = running_task(installation, DEFIES, "--grace", "1h")
    done = installation.run(
        "maintenance", "node-a", "--reason", "move", "--deadline", "2s", "--wait"
    )
    assert done.returncode == 0, done.stderr
    assert "ready,maintenance" in installation.run("nodes").stdout
    assert "[move; in maintenance since" in installation.run("nodes").stdout
    kinds = [event["kind"] for event in installation.ask("events")]
    assert {"node_maintenance", "node_drained"} <= set(kinds)
    assert installation.run("cancel", task).returncode == 0
    assert installation.run("uncordon", "node-a").returncode == 0


def test_bad_orders_are_refused(installation: Installation) -> None:
    for arguments, named in (
        (("drain", "node-a", "--deadline", "soon"), "--deadline 'soon'"),
        (("drain", "nosuch"), "nosuch"),
        (("maintenance", "node-a"), "--reason"),
        (("declare-lost", "nosuch"), "nosuch"),
    ):
        done = installation.run(*arguments)
        assert done.returncode in {1, 2}
        assert named.replace(" '", ": '") in done.stderr or named in done.stderr
        assert "Traceback" not in done.stderr
    assert node(installation)["schedulable"] is True


def test_a_living_node_is_not_declared_lost_and_a_silent_one_only_with_yes(
    installation: Installation, tmp_path: Path
) -> None:
    refused = installation.run("declare-lost", "node-a", "--yes")
    assert refused.returncode == 1
    assert "is alive" in refused.stderr
    file = tmp_path / "task.yaml"
    file.write_text(
        f"name: kept\nargv: ['sh', '-c', {TRAINS!r}]\non_lease_lost: keep\n".replace("\\'", "''")
    )
    task = installation.run("submit", "--file", str(file)).stdout.strip()
    wait_for(lambda: installation.ask("show", task)["state"] == "running", "the task runs")
    agent = installation._started[-1]
    agent.kill()
    agent.wait()
    wait_for(lambda: node(installation)["state"] == "unreachable", "its silence is noticed")
    asked = installation.run("declare-lost", "node-a")
    assert asked.returncode == 1
    assert "1 task (kept)" in asked.stderr
    assert "Nothing was done" in asked.stderr
    assert installation.ask("show", task)["state"] == "running"
    done = installation.run("declare-lost", "node-a", "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 task (kept) ended there" in done.stderr
    assert installation.ask("show", task)["state"] == "pending"
    assert installation.run("cancel", task).returncode == 0
    again = installation.join("node-a")
    assert again.poll() is None
    wait_for(lambda: node(installation)["state"] == "ready", "the node is back")
    wait_for(
        lambda: not list((installation.root / "node-a" / "allocations").glob("*/*")),
        "what it still ran is ended and forgotten",
    )
