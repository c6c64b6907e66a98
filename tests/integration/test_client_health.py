"""Quarantine, usage, advice and findings at the command line, against a real service and agent."""

import json
from collections.abc import Iterator

import pytest

from tests.command import Installation, nothing_left
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A service and one node with two simulated devices, shared by the tests of this file."""
    root = tmp_path_factory.mktemp("health") / "stowplan"
    installation = Installation(root)
    try:
        installation.serve()
        installation.join("node-a")
        yield installation
    finally:
        installation.close()
    nothing_left(root)


def test_a_device_is_quarantined_and_released_by_its_index(installation: Installation) -> None:
    done = installation.run("quarantine", "node-a", "1", "--reason", "odd noises")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "node-a simulated GPU 1 takes no new task: odd noises\n"
    [row] = installation.run("quarantines").stdout.splitlines()[1:]
    assert row.startswith("node-a  simulated GPU 1  manual")
    assert row.endswith("released by hand  odd noises")
    assert "unhealthy: quarantined: odd noises" in installation.run("nodes").stdout
    [found] = installation.ask("findings")
    assert (found["kind"], found["node"], found["text"]) == ("unhealthy", "node-a", "odd noises")
    task = installation.run("submit", "--gpus", "2", "true").stdout.strip()
    wait_for(lambda: bool(installation.ask("why", task)["reasons"]), "a plan speaks of the task")
    assert "too few healthy devices" in installation.run("why", task).stdout
    done = installation.run("release", "node-a", "1")
    assert (done.returncode, done.stderr) == (0, "node-a simulated GPU 1 is released from manual\n")
    assert installation.run("wait", task).returncode == 0
    assert installation.ask("quarantines") == []
    assert len(installation.ask("quarantines", "--all")) == 1


def test_what_is_not_there_exits_with_1_and_is_named(installation: Installation) -> None:
    for arguments, named in (
        (["quarantine", "node-b", "0", "--reason", "x"], "node-b"),
        (["quarantine", "node-a", "9", "--reason", "x"], "'9'"),
        (["release", "node-a", "0"], "isn't quarantined"),
        (["usage", "nosuch"], "nosuch"),
    ):
        done = installation.run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert named in done.stderr


def test_a_quarantine_needs_a_reason(installation: Installation) -> None:
    assert installation.run("quarantine", "node-a", "0").returncode == 2


def test_every_listing_has_every_format(installation: Installation) -> None:
    installation.run("submit", "--wait", "--name", "short", "true")
    listings = (["quarantines"], ["quarantines", "--all"], ["findings"], ["advice"])
    for listing in (*listings, ["usage", "short"]):
        table, wide = installation.run(*listing), installation.run(*listing, "-o", "wide")
        assert (table.returncode, wide.returncode) == (0, 0), table.stderr + wide.stderr
        assert table.stdout
        assert json.loads(installation.run(*listing, "-o", "json").stdout) is not None
    assert "not at all" in installation.run("usage", "short").stdout, "too short to be measured"
