"""The offline commands: exit codes, what goes to stdout and what to stderr."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client.commands import files
from client.commands.offline import register

EXAMPLE = Path(__file__).parents[3] / "examples" / "problems" / "contract.json"


@pytest.fixture
def cli() -> typer.Typer:
    cli = typer.Typer()
    register(cli)
    return cli


def test_the_contracts_example_is_placed_and_proven(cli: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = CliRunner().invoke(cli, ["solve", str(EXAMPLE), "--out", str(out)])
    assert (result.exit_code, result.output) == (0, "")
    plan = json.loads(out.read_bytes())
    assert plan["status"] == "optimal"
    assert plan["placements"] == [
        {"task": "t1", "replicas": [{"node": "n1", "devices": ["GPU-0"]}]}
    ]
    assert [term["gap"] for term in plan["objective"]] == [0.0] * 5
    assert plan["objective"][0] == {
        "name": "placed",
        "level": 0,
        "value": 460,
        "bound": 460,
        "gap": 0.0,
    }
    checked = CliRunner().invoke(cli, ["check", str(EXAMPLE), str(out)])
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["violations"] == []


def test_a_problem_on_stdin_gives_json_on_stdout_and_nothing_else(cli: typer.Typer) -> None:
    result = CliRunner().invoke(cli, ["solve", "-", "--deterministic"], input=EXAMPLE.read_bytes())
    assert result.exit_code == 0
    assert result.stderr == ""
    assert json.loads(result.stdout)["stats"]["seconds"] == 0.0


def test_every_fault_of_invalid_input_is_on_stderr(cli: typer.Typer) -> None:
    data = b'{"version": 3, "nodes": [], "tasks": [{"id": "t", "queue": "no", "x": 1}]}'
    result = CliRunner().invoke(cli, ["solve", "-"], input=data)
    assert result.exit_code == 2
    assert result.stdout == ""
    for path in ("version", "tasks[0].queue", "tasks[0].x"):
        assert f"  {path}: " in result.stderr


@pytest.mark.parametrize("options", [["--seconds", "-1"], ["--workers", "0"], ["--seed", "-4"]])
def test_an_option_out_of_range_is_invalid_input(cli: typer.Typer, options: list[str]) -> None:
    result = CliRunner().invoke(cli, ["solve", str(EXAMPLE), *options])
    assert result.exit_code == 2
    assert f"budget.{options[0][2:]}" in result.stderr


def test_a_plan_is_drawn_to_stdout_or_to_a_file(cli: typer.Typer, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "plan.svg"
    assert CliRunner().invoke(cli, ["solve", str(EXAMPLE), "--out", str(plan)]).exit_code == 0
    result = CliRunner().invoke(cli, ["draw", str(EXAMPLE), str(plan)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("<svg ")
    by_queue = ["draw", str(EXAMPLE), str(plan), "--colours", "queue", "--out", str(out)]
    assert CliRunner().invoke(cli, by_queue).output == ""
    assert ">research</text>" in out.read_text()


def test_no_plan_and_no_colouring_are_invalid_input(cli: typer.Typer, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    result = CliRunner().invoke(cli, ["draw", str(EXAMPLE), str(plan)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "status: is required" in result.stderr
    result = CliRunner().invoke(cli, ["draw", str(EXAMPLE), str(plan), "--colours", "mood"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'mood'" in result.stderr
    assert CliRunner().invoke(cli, ["draw", "-", "-"]).exit_code == 2


def test_a_plan_that_breaks_a_rule_ends_with_1_and_names_it(
    cli: typer.Typer, tmp_path: Path
) -> None:
    plan = {
        "version": 1,
        "status": "optimal",
        "placements": [{"task": "t1", "replicas": [{"node": "nowhere"}]}],
        "stats": {"seconds": 0, "quick_seconds": 0, "workers": 1, "digest": ""},
    }
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    result = CliRunner().invoke(cli, ["check", str(EXAMPLE), str(path)])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["violations"][0]["rule"] == "C1"


def test_a_file_that_cannot_be_read_or_written_is_said_so(cli: typer.Typer, tmp_path: Path) -> None:
    missing = CliRunner().invoke(cli, ["solve", str(tmp_path / "none.json")])
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "can't be read" in missing.stderr
    nowhere = CliRunner().invoke(
        cli, ["solve", str(EXAMPLE), "--out", str(tmp_path / "no" / "plan")]
    )
    assert nowhere.exit_code == 1
    assert "can't be written" in nowhere.stderr


def test_a_schema_is_printed_and_an_unknown_form_refused(cli: typer.Typer) -> None:
    result = CliRunner().invoke(cli, ["schema", "problem"])
    assert json.loads(result.stdout)["title"] == "Problem"
    assert CliRunner().invoke(cli, ["schema", "poem"]).exit_code == 2


def test_without_the_server_extra_the_message_says_what_to_install(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as caught:
        files.server_module("a_package_that_is_not_installed")
    assert caught.value.exit_code == 1
    assert "stowplan[server]" in capsys.readouterr().err


NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,32000,65536,2,T4\n"
TASKS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1000,1024,1,460\nb,1000,1024,1,540\n"


@pytest.fixture
def trace(tmp_path: Path) -> dict[str, str]:
    files = {"nodes": NODES, "tasks": TASKS, "order": "b\na\na\n"}
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: str(tmp_path / f"{name}.csv") for name in files}


def test_a_replay_writes_json_to_stdout_and_nothing_else(
    cli: typer.Typer, trace: dict[str, str]
) -> None:
    command = ["replay", "--nodes", trace["nodes"], "--tasks", trace["tasks"], "--max-moves", "0"]
    result = CliRunner().invoke(cli, [*command, "--order", trace["order"]])
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert set(report) == {
        "placements",
        "allocated_gpu_milli",
        "gpu_capacity_milli",
        "moves",
        "decision_seconds",
    }
    assert [(p["task"], p["index"], p["node"]) for p in report["placements"]] == [
        ("b", 0, "n1"),
        ("a", 1, "n1"),
        ("a", 2, "n1"),
    ]
    assert set(report["decision_seconds"]) == {"mean", "p50", "p99", "max"}


def test_a_shuffled_replay_is_the_same_for_the_same_seed(
    cli: typer.Typer, trace: dict[str, str]
) -> None:
    command = ["replay", "--nodes", trace["nodes"], "--tasks", "-", "--max-moves", "1"]
    command += ["--shuffle", "7", "--inflate", "1.3"]
    results = [CliRunner().invoke(cli, command, input=TASKS) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    first, second = (json.loads(result.stdout)["placements"] for result in results)
    assert first == second
    assert len(first) > 2


def test_every_fault_of_a_trace_is_on_stderr(cli: typer.Typer, trace: dict[str, str]) -> None:
    Path(trace["nodes"]).write_text(NODES + "n2,-1,1,1,T4\n")
    Path(trace["tasks"]).write_text(TASKS.replace("460", "half"))
    command = ["replay", "--nodes", trace["nodes"], "--tasks", trace["tasks"], "--max-moves", "0"]
    result = CliRunner().invoke(cli, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f'{trace["nodes"]}, line 3, column cpu_milli: has to be at least 0 (found "-1")' in (
        result.stderr
    )
    assert f"{trace['tasks']}, line 2, column gpu_milli: has to be an integer" in result.stderr


@pytest.mark.parametrize(
    "options", [["--order", "x", "--shuffle", "1"], ["--inflate", "1.3"], ["--max-moves", "-1"]]
)
def test_orders_that_contradict_each_other_are_refused(
    cli: typer.Typer, trace: dict[str, str], options: list[str]
) -> None:
    command = ["replay", "--nodes", trace["nodes"], "--tasks", trace["tasks"], *options]
    result = CliRunner().invoke(cli, command)
    assert (result.exit_code, result.stdout) == (2, "")
