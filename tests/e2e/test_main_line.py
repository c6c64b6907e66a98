"""The main job as a person does it: serve, agent, submit, ps, logs, why; and a killed service."""

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.command import EXAMPLES, Installation
from tests.waiting import wait_for

TRAIN = str(EXAMPLES / "train_digits.py")


def test_submitted_training_runs_and_every_command_tells_of_it(
    installation: Installation, tmp_path: Path
) -> None:
    installation.serve()
    installation.join("node-a")
    task = installation.run(
        *("submit", "--name", "train", "--gpus", "1", "--", sys.executable, TRAIN),
        *("--epochs", "1", "--checkpoint-dir", str(tmp_path / "checkpoints")),
    )
    assert task.returncode == 0, task.stderr
    identity = task.stdout.strip()

    followed = installation.run("logs", "-f", identity)
    assert followed.returncode == 0, followed.stderr
    assert "loss first=" in followed.stdout
    assert installation.run("wait", identity).returncode == 0

    [listed] = installation.ask("ps")
    assert (listed["id"], listed["state"], listed["generation"]) == (identity, "succeeded", 1)
    [allocation] = listed["allocations"]
    assert allocation["node"] == "node-a"
    assert [device["simulated"] for device in allocation["devices"]] == [True]
    assert "simulated GPU" in installation.run("ps").stdout
    why = installation.run("why", "train")
    assert why.returncode == 0
    assert "node-a" in why.stdout
    assert "plan" in why.stdout
    assert (tmp_path / "checkpoints" / "latest").exists()


def test_task_that_fits_nowhere_waits_and_why_says_what_is_missing(
    installation: Installation,
) -> None:
    installation.serve()
    installation.join("node-a", devices=2)
    task = installation.run("submit", "--name", "huge", "--gpus", "4", "true").stdout.strip()
    wait_for(lambda: bool(installation.ask("why", task)["reasons"]), "a plan speaks of the task")
    answer = installation.ask("why", task)
    assert answer["state"] == "pending"
    assert answer["reasons"][0]["code"] in {"no_capacity", "no_matching_node"}
    assert "4" in answer["text"]
    assert installation.run("cancel", task).returncode == 0
    assert installation.ask("show", task)["state"] == "cancelled"


def test_failing_task_tells_its_exit_code_and_wait_exits_with_1(installation: Installation) -> None:
    installation.serve()
    installation.join("node-a")
    done = installation.run(
        "submit", "--follow", "--", sys.executable, "-c", "print('so far'); raise SystemExit(3)"
    )
    assert done.returncode == 1
    assert done.stdout == "so far\n"
    assert "failed" in done.stderr
    [task] = installation.ask("ps", "--state", "failed")
    assert task["allocations"][0]["exit_code"] == 3


@pytest.mark.timeout(300)
def test_killed_service_comes_back_to_the_same_processes(
    installation: Installation, tmp_path: Path
) -> None:
    """`kill -9` in the middle of a gang's training: the processes go on, and none runs twice."""
    epochs = 8
    metrics = tmp_path / "metrics.jsonl"
    service = installation.serve()
    installation.join("node-a")
    installation.join("node-b")
    task = installation.run(
        *("submit", "--name", "gang", "--replicas", "2", "--gpus", "1", "--spread-over", "node"),
        *("--", sys.executable, TRAIN, "--epochs", str(epochs), "--step-delay-ms", "60"),
        *("--checkpoint-dir", str(tmp_path / "checkpoints"), "--metrics", str(metrics)),
    ).stdout.strip()
    follower = installation.start("follower", "logs", "-f", task)
    wait_for(lambda: metrics.exists() and bool(metrics.read_text()), "the first epoch ends", 120)
    wait_for(lambda: "epoch 1/" in installation.output("follower"), "the log is followed")
    before = {a["replica"]: a["pid"] for a in installation.ask("show", task)["allocations"]}
    assert len(set(before.values())) == 2

    port = installation.port
    service.send_signal(signal.SIGKILL)
    service.wait()
    assert len(metrics.read_text().splitlines()) < epochs, "the training was over too soon"
    assert all(psutil.Process(pid).is_running() for pid in before.values())
    installation.serve(port)

    assert installation.run("wait", task).returncode == 0
    view = installation.ask("show", task)
    assert (view["state"], view["generation"], view["failures"]) == ("succeeded", 1, 0)
    assert {a["replica"]: a["pid"] for a in view["allocations"]} == before
    assert {a["node"] for a in view["allocations"]} == {"node-a", "node-b"}
    # Each epoch was trained once, by the one attempt there was.
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines if "epoch" in line] == list(range(1, epochs + 1))
    assert follower.wait(60) == 0
    followed = installation.output("follower")
    assert followed.count("starting afresh") == 1
    assert [f"epoch {n}/{epochs}" in followed for n in range(1, epochs + 1)] == [True] * epochs
