"""`stowplan eta`, `simulate` and `submit --dry-run` against a real service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Installation, nothing_left
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two devices, both held for a minute, and a task that waits for one."""
    root = tmp_path_factory.mktemp("eta") / "stowplan"
    installation = Installation(root)
    try:
        installation.serve()
        installation.join("node-a")
        run = ("submit", "--gpus", "2", "--duration", "1h")
        installation.run(*run, "--name", "holds", "sleep", "600")
        wait_for(lambda: installation.ask("show", "holds")["state"] == "running", "it runs")
        installation.run(*run, "--name", "waits", "sleep", "1")
        yield installation
        installation.run("cancel", "waits", "holds")
        installation.run("wait", "holds")
    finally:
        installation.close()
    nothing_left(root)


def test_eta_says_when_a_task_starts_and_all_that_wait_are_listed(
    installation: Installation,
) -> None:
    told = installation.ask("eta", "waits")
    assert 0 < told["seconds_p50"] <= told["seconds_p90"] <= 3_600
    table = installation.run("eta")
    assert table.returncode == 0
    assert "NINE IN TEN" in table.stdout
    assert "waits for" in table.stdout


def test_a_dry_run_says_when_it_would_start_and_submits_nothing(
    installation: Installation,
) -> None:
    before = installation.ask("ps", "--all")
    done = installation.run(
        "submit", "--dry-run", "--name", "maybe", "--priority", "9", "--gpus", "1",
        "--duration", "5h", "true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "maybe" in done.stdout
    assert "in " in done.stdout
    assert "Nothing was changed" in done.stderr
    assert [task["id"] for task in installation.ask("ps", "--all")] == [
        task["id"] for task in before
    ]


def test_simulate_takes_changes_from_a_file(installation: Installation, tmp_path: Path) -> None:
    file = tmp_path / "changes.yaml"
    file.write_text("add_nodes: [{like: node-a}]\nprices: {}\n")
    told = installation.ask("simulate", str(file))
    assert told["affected"][0]["after"]["seconds_p50"] == 0.0
    assert installation.run("simulate", str(file)).returncode == 0


def test_bad_changes_exit_with_2_and_name_every_fault(
    installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "changes.json"
    file.write_text(json.dumps({"remove_nodes": ["gone"], "cancel": ["t-none"]}))
    done = installation.run("simulate", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "remove_nodes[0]" in done.stderr
    assert "cancel[0]" in done.stderr
    assert installation.run("simulate", str(tmp_path / "none.yaml")).returncode == 2
    assert installation.run("eta", "nobody").returncode == 1
