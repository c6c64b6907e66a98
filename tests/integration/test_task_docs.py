"""docs/tasks.md: its programs do what it says, and its words are those of the code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.environment import Base, task_environment
from client.training import latest_in
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.report import Progress
from protocol.task import TERM_SECONDS, AskBy, Checkpoint, TaskSpec
from tests.waiting import wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
PATIENCE = 120.0


def programs() -> dict[str, str]:
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("language", ["python", "sh"])
def test_a_program_of_the_page_tells_its_steps_saves_when_asked_and_goes_on(
    tmp_path: Path, language: str
) -> None:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    script = tmp_path / "program"
    script.write_text(programs()[language])
    argv = [sys.executable if language == "python" else "sh", str(script)]
    reached = 0
    for generation in (1, 2):
        control = tmp_path / f"control-{generation}"
        control.mkdir()
        # A launcher of its own would do no more: the page's programs need nothing else.
        environment = {
            **os.environ,
            "STOWPLAN_GENERATION": str(generation),
            "STOWPLAN_CONTROL": str(control),
            "STOWPLAN_ARTIFACTS": str(artifacts),
        }
        with subprocess.Popen(argv, env=environment) as program:
            progress = control / "progress.json"
            wait_for(progress.exists, "it tells its steps", PATIENCE)
            (control / "checkpoint.asked").touch()
            assert program.wait(PATIENCE) == 0
        told = {entry.name for entry in control.iterdir()}
        assert told >= {"checkpoint.acknowledged", "checkpoint.done"}
        form = json.loads(progress.read_text())
        assert set(form) <= set(Progress.model_fields)
        assert form["steps"] == 100_000
        saved = _saved_step(artifacts, language)
        assert reached < saved <= 100_000, "it went on where the first attempt stopped"
        reached = saved


def _saved_step(artifacts: Path, language: str) -> int:
    if language == "sh":
        return int((artifacts / "state").read_text())
    found = latest_in(artifacts)
    assert found is not None
    return found.step


def test_every_variable_that_a_program_finds_is_on_the_page() -> None:
    allocation = DesiredAllocation(
        id="a",
        task="t",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        launch=Launch(argv=("true",), grace_seconds=30, checkpoint=Checkpoint()),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )
    found = task_environment(
        Base(node="n1", path="/usr/bin", variables={}),
        allocation,
        port=20_000,
        master_port=20_001,
        artifacts=Path("/artifacts"),
        control=Path("/control"),
        ranks=Path("/ranks"),
    )
    of_torchrun = {"LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK"}
    everyday = {"PATH", "PYTHONUNBUFFERED", "CUDA_DEVICE_ORDER", "STOWPLAN_DEVICES"}
    named = {name for name in found if not name.startswith("PET_")} - of_torchrun - everyday
    assert [name for name in sorted(named) if f"`{name}`" not in PAGE] == []
    told = set(re.findall(r"`(STOWPLAN_[A-Z_]+)`", PAGE))
    assert told - set(found) == set()


def test_its_numbers_and_words_are_those_of_the_protocol() -> None:
    spec = TaskSpec(argv=("true",))
    assert f"(`--grace`, {spec.grace_seconds:g} s)" in PAGE
    assert f"`checkpoint.ack_seconds` ({Checkpoint().ack_seconds:g})" in PAGE
    assert f"{TERM_SECONDS:g} s later SIGKILL" in PAGE
    assert all(f"`{ask}`" in PAGE for ask in AskBy)
    assert all(f"`{name}`" in PAGE for name in set(Progress.model_fields) - {"id", "generation"})
