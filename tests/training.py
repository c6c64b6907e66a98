"""An attempt's helper (client/training.py) as tests use it, and the node's side of its words."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import training
from client.training import Training

MODULE = Path(training.__file__)


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a task or a gang, wherever the tests themselves run."""
    for name in list(os.environ):
        if name.startswith("STOWPLAN_") or name in {"RANK", "LOCAL_RANK", "WORLD_SIZE"}:
            monkeypatch.delenv(name)


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control directory, as a node makes it for an attempt."""
    path = tmp_path / "control"
    path.mkdir()
    monkeypatch.setenv("STOWPLAN_CONTROL", str(path))
    return path


@pytest.fixture
def at_generation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Training]:
    """One attempt's helper on the directory that all share."""

    def make(generation: int, **about: Any) -> Training:
        monkeypatch.setenv("STOWPLAN_GENERATION", str(generation))
        return Training(tmp_path / "checkpoints", **about)

    return make


def save(run: Training, step: int, content: str = "state", **how: Any) -> None:
    with run.saving(step, **how) as path:
        path.write_text(content)


def names(run: Training) -> list[str]:
    return sorted(entry.name for entry in run.directory.iterdir() if entry.name[0] != ".")


def ask(control: Path) -> None:
    (control / "checkpoint.asked").touch()


def told(control: Path) -> set[str]:
    return {entry.name for entry in control.iterdir()}


def progress(control: Path) -> dict[str, Any]:
    return json.loads((control / "progress.json").read_text())
