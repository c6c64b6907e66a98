"""From a GPU's own word to the planner: a real agent over the stand-in NVML, a real service."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Installation, nothing_left
from tests.nvml.build import DRIVER, build, h100, write_script
from tests.waiting import wait_for

HURRIED = {
    "STOWPLAN_WATCH_INTERVAL_SECONDS": "1",
    "STOWPLAN_SAMPLES_INTERVAL_SECONDS": "0.5",
    "STOWPLAN_REPORT_INTERVAL_SECONDS": "0.2",
    "STOWPLAN_UNMANAGED_SECONDS": "1",
    "STOWPLAN_HELD_IDLE_SECONDS": "1",
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    script = tmp_path / "gpus"
    write_script(script, *DRIVER, h100(0), h100(1), h100(2))
    return script


@pytest.fixture
def installation(tmp_path: Path, script: Path) -> Iterator[Installation]:
    """A service that looks every second, and a node with three GPUs of the stand-in."""
    root = tmp_path / "stowplan"
    installation = Installation(root)
    installation.environment |= HURRIED
    try:
        installation.serve()
        installation.start(
            "node-a", "agent", "--name", "node-a", "--nvml-library", str(build(tmp_path)),
            "--stop-tasks-on-exit", "--state-dir", str(root / "node-a"),
            STANDIN_NVML_SCRIPT=str(script),
        )  # fmt: skip
        wait_for(
            lambda: [len(n["devices"]) for n in installation.ask("nodes")] == [3], "the node joins"
        )
        yield installation
    finally:
        installation.close()
    nothing_left(root)


def quarantined(installation: Installation) -> list[tuple[int, str]]:
    return sorted((one["index"], one["code"]) for one in installation.ask("quarantines"))


def test_what_the_gpus_tell_decides_where_tasks_go(
    installation: Installation, script: Path
) -> None:
    def see(*lines: str, codes: list[tuple[int, str]]) -> None:
        write_script(script, *DRIVER, *lines)
        wait_for(lambda: quarantined(installation) == codes, f"the quarantines are {codes}")

    def task() -> dict[str, Any]:
        return installation.ask("show", "held")

    see(h100(0), h100(1), h100(2), "xid 0 79", codes=[(0, "xid")])
    stranger = f"process 1 {os.getpid()} 700"
    see(h100(0), h100(1), h100(2), stranger, codes=[(0, "xid"), (1, "unmanaged")])
    assert "process with 700 MiB of no task holds it" in installation.run("findings").stdout

    installation.run("submit", "--name", "held", "--gpus", "1", "sleep", "600")
    wait_for(lambda: task()["state"] == "running", "the task runs")
    [allocation] = task()["allocations"]
    assert [device["index"] for device in allocation["devices"]] == [2]
    wait_for(lambda: task()["idle"] is not None, "the task is idle")
    assert task()["idle"]["kind"] == "held_but_idle"
    assert "idle: no process on its GPUs" in installation.run("ps").stdout

    see(h100(0), h100(1), h100(2), codes=[(0, "xid")])
    installation.run("release", "node-a", "0")
    assert quarantined(installation) == []
    installation.run("submit", "--name", "two", "--gpus", "2", "sleep", "600")
    wait_for(lambda: installation.ask("show", "two")["state"] == "running", "both are in use again")
