"""``stowplan schedule`` from outside: JSON on stdout and nothing else, faults on stderr, codes."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client.commands.scheduling import register

TINY = Path(__file__).parents[2] / "data" / "tiny.sm"
PROJECT = {
    "version": 1,
    "resources": {"gpu": 8},
    "tasks": [
        {"id": "z", "duration": 2, "request": {"gpu": 8}},
        {"id": "a", "duration": 4, "request": {"gpu": 2}, "after": ["z"]},
    ],
}


@pytest.fixture
def cli() -> typer.Typer:
    found = typer.Typer()
    register(found)
    found.callback()(lambda: None)
    return found


def test_the_schedule_goes_to_stdout_or_to_the_file(cli: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["schedule", "-"], input=json.dumps(PROJECT))
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["status"], found["makespan"], found["bound"]) == ("optimal", 6, 6)
    assert found["starts"] == {"z": 0, "a": 2}
    out = tmp_path / "out.json"
    arguments = ["schedule", str(TINY), "--seconds", "2", "--workers", "1", "--seed", "3"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(out)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert list(json.loads(out.read_text())["starts"]) == ["1", "2", "3", "4", "5", "6"]


def test_a_psplib_file_may_come_on_stdin(cli: typer.Typer) -> None:
    result = CliRunner().invoke(cli, ["schedule", "-"], input=TINY.read_text())
    assert json.loads(result.stdout)["makespan"] == 11


def test_the_same_is_printed_twice_where_that_is_asked_for(cli: typer.Typer) -> None:
    arguments = ["schedule", str(TINY), "--deterministic", "--seconds", "1"]
    first, second = (CliRunner().invoke(cli, arguments).stdout for _ in range(2))
    assert first == second != ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"resources": {"gpu": 4}}, "tasks[0].request.gpu: is more than there is: 4"),
        ({"tasks": [{"id": "a", "duration": 5, "deadline": 4}]}, "can't be met"),
        ({"tasks": [{"id": "a", "duration": 5, "after": ["a"]}]}, "closes a ring of 1"),
        ({"tasks": [{"id": "a", "duration": float("nan")}]}, "that JSON doesn't have"),
    ],
)
def test_faults_go_to_stderr_and_end_with_2(
    cli: typer.Typer, change: dict[str, object], told: str
) -> None:
    result = CliRunner().invoke(cli, ["schedule", "-"], input=json.dumps(PROJECT | change))
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_options_that_can_not_be_and_files_that_are_not_there(cli: typer.Typer) -> None:
    result = CliRunner().invoke(cli, ["schedule", str(TINY), "--seconds", "-1"])
    assert (result.exit_code, "budget.seconds" in result.stderr) == (2, True)
    assert CliRunner().invoke(cli, ["schedule", "nowhere.sm"]).exit_code == 1


def test_what_only_the_search_refutes_is_answered_and_fails(cli: typer.Typer) -> None:
    crowd = [
        {"id": name, "duration": 4, "request": {"gpu": 6}, "deadline": 9}
        for name in ("a", "b", "c")
    ]
    asked = {**PROJECT, "resources": {"gpu": 8}, "tasks": crowd}
    result = CliRunner().invoke(cli, ["schedule", "-"], input=json.dumps(asked))
    assert (result.exit_code, "every deadline" in result.stderr) == (2, True)
    assert json.loads(result.stdout)["status"] == "infeasible"
