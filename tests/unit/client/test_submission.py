"""Options and files become a task, or a list of every fault."""

import io
import json
from pathlib import Path

import pytest

from client.errors import InvalidInputError
from client.submission import Options, build


def test_options_become_the_tasks_form() -> None:
    spec = build(
        Options(
            argv=("python", "train.py"),
            name="train",
            gpus=1,
            gpu_milli=500,
            gpu_memory="16GiB",
            cpus="2.5",
            memory="4GiB",
            replicas=2,
            min_replicas=1,
            priority=7,
            models=("A100", "H100"),
            select=("zone=a,b", "disk=ssd"),
            spread_over="node",
            env=("SEED=1", "MODE="),
            duration="1h",
            grace="5s",
        ),
        current_dir="/work",
    )
    assert spec == {
        "argv": ["python", "train.py"],
        "name": "train",
        "replicas": 2,
        "min_replicas": 1,
        "priority": 7,
        "gpu_models": ["A100", "H100"],
        "spread_over": "node",
        "duration_seconds": 3600.0,
        "grace_seconds": 5.0,
        "request": {
            "gpus": 1,
            "gpu_milli": 500,
            "gpu_memory_mib": 16384,
            "cpu_milli": 2500,
            "memory_mib": 4096,
        },
        "env": {"SEED": "1", "MODE": ""},
        "node_selector": {"zone": ["a", "b"], "disk": ["ssd"]},
        "working_dir": "/work",
    }


def test_how_a_task_lives_and_ends_has_options(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text(json.dumps({"checkpoint": {"ack_seconds": 30}, "health": None}))
    spec = build(
        Options(
            argv=("python", "serve.py"),
            file=str(file),
            service=True,
            restart_delay="2s",
            checkpoint="SIGUSR1",
            on_lease_lost="keep",
            ready_path="/ready",
            health_path="/healthz",
            drain="10s",
            pids_max=64,
            gpu_overuse="stop",
            enforce=("memory", "pids"),
        ),
        current_dir="/work",
    )
    assert spec == {
        "argv": ["python", "serve.py"],
        "kind": "service",
        "working_dir": "/work",
        "restart_delay_seconds": 2.0,
        "checkpoint": {"ask": "SIGUSR1", "ack_seconds": 30},
        "on_lease_lost": "keep",
        "readiness": {"path": "/ready"},
        "health": {"path": "/healthz"},
        "drain_seconds": 10.0,
        "pids_max": 64,
        "gpu_overuse": "stop",
        "enforce": ["memory", "pids"],
    }


def test_what_is_a_services_only_is_refused_for_others_all_at_once() -> None:
    with pytest.raises(InvalidInputError) as refused:
        build(Options(argv=("true",), ready_path="/", health_path="/", drain="1s"), current_dir="/")
    text = str(refused.value.faults)
    assert all(name in text for name in ("readiness", "health", "drain_seconds"))


def test_what_is_not_given_is_left_to_the_service() -> None:
    assert build(Options(argv=("true",)), current_dir="/") == {"argv": ["true"], "working_dir": "/"}


def test_options_stand_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("argv: [python, a.py]\npriority: 1\nrequest: {gpus: 2, cpu_milli: 500}\n")
    spec = build(Options(file=str(file), gpus=4, priority=9), current_dir="/")
    assert spec["argv"] == ["python", "a.py"]
    assert spec["priority"] == 9
    assert spec["request"] == {"gpus": 4, "cpu_milli": 500}


def test_task_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"argv": ["true"]})))
    assert build(Options(file="-"), current_dir="/")["argv"] == ["true"]


def test_every_fault_of_options_and_form_is_named_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(
            Options(
                name="a b",
                cpus="x",
                memory="4",
                memory_mib=1,
                gpus=-1,
                env=("NOVALUE",),
                select=("zone",),
                argv=("true",),
            ),
            current_dir="/",
        )
    paths = [fault.path for fault in caught.value.faults]
    assert sorted(paths) == ["--cpus", "--env", "--memory", "--select", "name", "request.gpus"]
    assert caught.value.exit_code == 2


def test_same_quantity_in_two_units_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(Options(argv=("true",), cpus="1", cpu_milli=1000), current_dir="/")
    assert [fault.path for fault in caught.value.faults] == ["--cpu-milli"]


def test_task_without_a_program_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        build(Options(), current_dir="/")
    assert [fault.path for fault in caught.value.faults] == ["argv"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.json", "{", "is no JSON"),
        ("t.json", "[" * 100_000, "is no JSON"),
        ("t.yaml", "a: [", "is no YAML"),
        ("t.yaml", "- a\n", "holds no task"),
        ("t.yaml", "", "holds no task"),
        ("t.yaml", "!!python/object/apply:os.system [id]", "is no YAML"),
    ],
)
def test_file_that_holds_no_task_is_refused(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InvalidInputError, match=said):
        build(Options(file=str(file)), current_dir="/")


def test_file_that_is_absent_or_binary_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.yaml", binary, tmp_path):
        with pytest.raises(InvalidInputError, match="can't read"):
            build(Options(file=str(path)), current_dir="/")


def test_unknown_words_and_odd_values_of_a_file_are_faults(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("argv: [true, x]\nstart: 2026-01-01\ngpus: 1\nrequest: 7\nenv: {A: .nan}\n")
    with pytest.raises(InvalidInputError) as caught:
        build(Options(file=str(file), gpus=2), current_dir="/")
    paths = {fault.path for fault in caught.value.faults}
    assert paths == {"argv[0]", "start", "gpus", "request", "env.A"}
