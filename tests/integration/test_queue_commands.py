"""`stowplan queue` and `stowplan booking` against a real service: what they print, and with which
exit code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.command import Installation, nothing_left


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("queues") / "stowplan"
    installation = Installation(root)
    try:
        installation.serve()
        installation.join("node-a")
        yield installation
    finally:
        installation.close()
    nothing_left(root)


def test_a_queue_is_made_changed_listed_and_removed(installation: Installation) -> None:
    made = installation.run("queue", "create", "ml", "--limit", "gpu_milli=9000")
    assert (made.returncode, "queue ml is there" in made.stderr) == (0, True)
    share = ("--guaranteed", "gpu_milli=16000", "--guaranteed", "memory_mib=1GiB")
    one = installation.ask(
        "queue", "create", "top", "--weight", "2", *share, "--min-runtime", "10m"
    )
    assert one["guaranteed"] == {"gpu_milli": 16_000, "memory_mib": 1024}
    assert (one["weight"], one["min_runtime_seconds"]) == (2, 600.0)
    assert one["notes"][0].startswith("gpu_milli: the queues at the top are guaranteed 16000")
    moved = installation.ask(
        "queue", "set", "ml", "--parent", "top", "--limit", "gpu_milli=none", "--weight", "0"
    )
    assert (moved["parent"], moved["limit"], moved["weight"]) == ("top", {}, 0)
    table = installation.run("queue", "ls").stdout
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["top", "└"]
    refused = installation.run("queue", "rm", "top")
    assert (refused.returncode, "below it are ml" in refused.stderr) == (1, True)
    assert installation.run("queue", "show", "ml").stdout.startswith("queue ml, below top\n")
    for name in ("ml", "top"):
        assert installation.run("queue", "rm", name).returncode == 0


def test_every_fault_of_the_options_is_told_with_exit_2(installation: Installation) -> None:
    done = installation.run(
        "queue", "create", "q", "--limit", "gpus", "--guaranteed", "gpus=x", "--min-runtime", "soon"
    )
    assert (done.returncode, done.stdout) == (2, "")
    for option in ("--limit: 'gpus'", "--guaranteed: 'gpus=x'", "--min-runtime: 'soon'"):
        assert option in done.stderr
    done = installation.run("queue", "create", "q", "--parent", "none", "--limit", "tpu=1")
    assert (done.returncode, "limit.tpu" in done.stderr, "parent" in done.stderr) == (2, True, True)
    assert installation.run("queue", "set", "q").returncode == 2
    done = installation.run("booking", "create", "b", "node-a", "--start", "soon", "--for", "x")
    assert (done.returncode, "--start" in done.stderr, "--for" in done.stderr) == (2, True, True)


def test_a_node_is_booked_and_given_back(installation: Installation) -> None:
    installation.run("queue", "create", "research")
    made = installation.ask(
        "booking", "create", "b", "node-a", "--start", "+2h", "--for", "90m", "--queue", "research"
    )
    assert (made["state"], made["queue"]) == ("upcoming", "research")
    again = installation.run("booking", "create", "c", "node-a", "--start", "+3h", "--end", "+4h")
    assert (again.returncode, "booking b (node-a for queue research" in again.stderr) == (2, True)
    assert "research" in installation.run("booking", "ls").stdout
    assert installation.run("booking", "rm", "b").returncode == 0
    assert installation.ask("booking", "ls", "--all") == []


def test_both_listings_have_every_format(installation: Installation) -> None:
    installation.run("queue", "create", "listed")
    installation.run("booking", "create", "listed", "node-a", "--start", "+2h", "--for", "1h")
    for listing in (["queue", "ls"], ["booking", "ls"]):
        for more in ([], ["-o", "wide"]):
            done = installation.run(*listing, *more)
            assert (done.returncode, "listed" in done.stdout) == (0, True), done.stderr
        as_json = json.loads(installation.run(*listing, "-o", "json").stdout)
        as_yaml = yaml.safe_load(installation.run(*listing, "-o", "yaml").stdout)
        assert [one["name"] for one in as_json] == [one["name"] for one in as_yaml]


def test_the_sdk_speaks_of_queues_and_bookings(installation: Installation, tmp_path: Path) -> None:
    with installation.client() as stowplan:
        stowplan.queues.create("sdk", limit={"gpus": 1})
        assert stowplan.queues.change("sdk", limit={"gpus": None, "cpu_milli": 5})["limit"] == {
            "cpu_milli": 5
        }
        assert stowplan.queues.get("sdk")["weight"] == 1
        made = stowplan.bookings.create(
            "sdk", ["node-a"], starts_at="2030-01-01T00:00:00Z", duration_seconds=60
        )
        assert stowplan.bookings.get(made["id"]) == made
        stowplan.bookings.end("sdk")
        stowplan.queues.remove("sdk")
        assert "sdk" not in {one["name"] for one in stowplan.queues.all()}
