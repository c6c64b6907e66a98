"""The command as a person meets it: exit codes, usage, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client import cli


@pytest.fixture(autouse=True)
def nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, and a server address at which nobody listens."""
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path))
    monkeypatch.setenv("STOWPLAN_SERVER", "http://127.0.0.1:9")
    monkeypatch.setattr("client.transport.FIRST_CONTACT_SECONDS", 0.0)


@pytest.mark.parametrize("command", ["", "submit", "ps", "logs", "why", "serve", "agent", "demo"])
def test_help_exits_with_0(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    assert "Usage: stowplan" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["ps", "--nosuch"],
        ["ps", "-o", "xml"],
        ["logs"],
        ["logs", "--replica", "-1", "t"],
        ["logs", "--replica", "x", "t"],
        ["serve", "--port", "70000"],
        ["submit"],
        ["submit", "--memory", "4", "true"],
        ["submit", "--gpus", "-1", "true"],
        ["submit", "--file", "/nonexistent"],
        ["ps", "--server", "nonsense"],
    ],
)
def test_invalid_input_exits_with_2_and_says_so_on_stderr(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("arguments", [["ps"], ["submit", "true"], ["why", "t"], ["events"]])
def test_absent_service_exits_with_1_and_says_what_to_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 1
    assert "stowplan serve" in capsys.readouterr().err


def test_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


def test_programs_own_options_are_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """`--gpus 7` behind the program is the program's: the task itself is well formed."""
    assert cli.run(["submit", "python", "a.py", "--gpus", "x"]) == 1
    assert "stowplan serve" in capsys.readouterr().err


def test_unforeseen_error_is_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_server: str | None) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("client.commands.tasks.connect", broken)
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    assert cli.run(["ps"]) == 1
    assert "RuntimeError: the sky fell" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_server: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.commands.tasks.connect", interrupted)
    assert cli.run(["ps"]) == 130


def test_reader_that_goes_away_is_met_with_silence() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "client.cli", "version"],
            stdout=nobody,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == b""


def test_help_loads_nothing_heavy() -> None:
    heavy = ["fastapi", "httpx2", "numpy", "ortools", "pydantic", "sqlalchemy", "torch", "yaml"]
    code = f"import sys, client.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
