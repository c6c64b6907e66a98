"""``stowplan allocate`` from outside: JSON on stdout and nothing else, faults on stderr, codes."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client.commands.allocation import register

JOBS = {
    "version": 1,
    "accelerators": {"v100": 2},
    "jobs": [{"id": "a", "throughput": {"v100": 1.5}, "steps": 30, "deadline_seconds": 10}],
}


@pytest.fixture
def cli() -> typer.Typer:
    found = typer.Typer()
    register(found)
    found.callback()(lambda: None)
    return found


def test_the_answer_goes_to_stdout_or_to_the_file(cli: typer.Typer, tmp_path: Path) -> None:
    text = json.dumps({**JOBS, "policy": "max_throughput"})
    result = CliRunner().invoke(cli, ["allocate", "-"], input=text)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["policy"] == "max_throughput"
    file, out = tmp_path / "jobs.json", tmp_path / "out.json"
    file.write_text(json.dumps(JOBS))
    arguments = ["allocate", str(file), "--policy", "water_filling", "--out", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    found = json.loads(out.read_text())
    assert (found["policy"], found["shares"]) == ("water_filling", {"a": {"v100": 1.0}})


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("nonsense", "max_min_fairness"),
        ("min_cost", "jobs[0].deadline_seconds"),
    ],
)
def test_what_is_refused_is_named_with_exit_code_2(
    cli: typer.Typer, policy: str, told: str
) -> None:
    result = CliRunner().invoke(cli, ["allocate", "-", "--policy", policy], input=json.dumps(JOBS))
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_file_that_is_not_there_is_exit_code_1(cli: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["allocate", str(tmp_path / "none.json")])
    assert result.exit_code == 1
