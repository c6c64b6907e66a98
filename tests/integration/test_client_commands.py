"""The commands against a real service: what they print, where, and with which exit code."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.command import Installation, nothing_left
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A service and one node with two simulated devices, shared by the tests of this file."""
    root = tmp_path_factory.mktemp("commands") / "stowplan"
    installation = Installation(root)
    try:
        installation.serve()
        installation.join("node-a")
        yield installation
    finally:
        installation.close()
    nothing_left(root)


def test_submit_prints_the_id_alone(installation: Installation) -> None:
    done = installation.run("submit", "--name", "alone", "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == installation.ask("show", "alone")["id"]


def test_submitted_file_and_options_become_one_task(
    installation: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("name: from-file\nargv: ['true']\nrequest: {gpus: 1, gpu_milli: 500}\n")
    task = installation.ask("submit", "--file", str(file), "--priority", "3")
    assert (task["name"], task["priority"]) == ("from-file", 3)
    assert task["spec"]["request"]["gpu_milli"] == 500
    assert task["spec"]["working_dir"] == str(Path.cwd())
    assert installation.run("wait", task["id"]).returncode == 0


def test_faults_of_the_service_are_listed_and_exit_with_2(installation: Installation) -> None:
    done = installation.run(
        "submit", "--replicas", "99", "--gpus", "1", "--separate-from", "t-none", "true"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "separate_from[0]: 't-none'" in done.stderr
    assert "replicas: 99" in done.stderr


def test_every_listing_has_every_format(installation: Installation) -> None:
    installation.run("submit", "--wait", "--gpus", "1", "true")
    for listing in (["ps"], ["nodes"], ["plans"], ["events"], ["top", "--once"]):
        table = installation.run(*listing)
        wide = installation.run(*listing, "-o", "wide")
        assert (table.returncode, wide.returncode) == (0, 0), table.stderr + wide.stderr
        assert table.stdout
        as_json = json.loads(installation.run(*listing, "-o", "json").stdout)
        as_yaml = yaml.safe_load(installation.run(*listing, "-o", "yaml").stdout)
        assert as_json
        assert len(as_json) == len(as_yaml)


def test_measurements_are_exported_to_a_pipe_or_a_file(
    installation: Installation, tmp_path: Path
) -> None:
    export = ("telemetry", "export", "--of", "node", "--resolution", "samples")
    piped = installation.run(*export)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.startswith("node,key,model,queue,task,taken_at_ms,")
    file = tmp_path / "nodes.parquet"
    done = installation.run(*export, "--format", "parquet", "--file", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert file.read_bytes()[:4] == b"PAR1"
    lost = tmp_path / "lost.csv"
    done = installation.run(*export, "--node", "nobody", "--file", str(lost))
    assert done.returncode == 1
    assert not lost.exists(), "a refusal makes no file"
    done = installation.run(*export, "--since", "yesterday")
    assert done.returncode == 2
    assert "--since 'yesterday'" in done.stderr


def test_top_is_sorted_by_what_is_asked_for(installation: Installation) -> None:
    done = installation.run("top", "--once", "--sort", "busy")
    assert done.returncode == 0, done.stderr
    assert "HELD BACK BY" in done.stdout.splitlines()[0]
    assert installation.run("top", "--once", "--sort", "colour").returncode == 2


def test_ps_has_the_columns_of_the_contract(installation: Installation) -> None:
    header = installation.run("ps").stdout.splitlines()[0].split()
    assert header == ["ID", "NAME", "STATE", "QUEUE", "NODES", "DEVICES", "RUNTIME", "WHY"]


def test_waiting_task_shows_its_reason_in_ps(installation: Installation) -> None:
    task = installation.run("submit", "--name", "big", "--gpus", "5", "true").stdout.strip()
    wait_for(lambda: bool(installation.ask("why", task)["reasons"]), "a plan speaks of the task")
    reason = installation.ask("why", task)["reasons"][0]["text"]
    [line] = [line for line in installation.run("ps").stdout.splitlines() if "big" in line]
    assert line.endswith(reason)
    assert installation.run("cancel", task).returncode == 0


def test_unknown_task_exits_with_1_and_is_named(installation: Installation) -> None:
    for command in ("show", "logs", "why", "cancel", "wait"):
        done = installation.run(command, "nosuch")
        assert (done.returncode, done.stdout) == (1, "")
        assert "nosuch" in done.stderr
        assert "Traceback" not in done.stderr


def test_cancel_goes_on_after_a_task_that_is_unknown(installation: Installation) -> None:
    task = installation.run("submit", "--gpus", "5", "true").stdout.strip()
    done = installation.run("cancel", "nosuch", task)
    assert done.returncode == 1
    assert installation.ask("show", task)["state"] == "cancelled"


def test_plan_is_shown_and_its_problem_is_json(installation: Installation, tmp_path: Path) -> None:
    installation.run("submit", "--wait", "--gpus", "1", "true")
    newest = installation.ask("plans")[0]["id"]
    assert newest in installation.run("plan", newest).stdout
    problem = tmp_path / "problem.json"
    problem.write_text(installation.run("plan", newest, "--problem").stdout)
    solved = installation.run("solve", str(problem))
    assert solved.returncode == 0, solved.stderr
    assert json.loads(solved.stdout)["version"] == 1


def test_node_is_cordoned_and_uncordoned(installation: Installation) -> None:
    assert installation.run("cordon", "node-a").returncode == 0
    assert "ready,cordoned" in installation.run("nodes").stdout
    assert installation.run("uncordon", "node-a").returncode == 0
    assert "cordoned" not in installation.run("nodes").stdout


def test_followed_commands_end_at_ctrl_c_with_130_and_silence(installation: Installation) -> None:
    for name, arguments in {
        "watch": ("ps", "--watch", "--interval", "0.1"),
        "events": ("events", "-f"),
        "top": ("top", "--interval", "0.1"),
    }.items():
        process = installation.start(name, *arguments)
        wait_for(lambda name=name: bool(installation.output(name)), f"{name} shows something")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in installation.output(name)


def test_followed_events_are_one_json_object_a_line(installation: Installation) -> None:
    name = "json-events"
    process = installation.start(name, "events", "-f", "-o", "json", "--tail", "2")
    installation.run("submit", "--name", "seen", "--wait", "true")
    wait_for(lambda: "seen succeeded" in installation.output(name), "the end is told")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    events = [json.loads(line) for line in installation.output(name).splitlines()]
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})


def test_migrate_tells_where_the_database_was_and_is(tmp_path: Path) -> None:
    fresh = Installation(tmp_path / "fresh")
    first, second = fresh.run("migrate"), fresh.run("migrate")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "was at nothing" in first.stderr
    assert first.stderr.split()[-1] == second.stderr.split()[-1]


def test_settings_that_are_refused_exit_with_2(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "fresh")
    installation.environment["STOWPLAN_LEASE_SECONDS"] = "soon"
    done = installation.run("serve")
    assert done.returncode == 2
    assert "lease_seconds: 'soon'" in done.stderr
