"""`stowplan probe`, the options of `stowplan agent`, and its commands."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import structlog
import typer
import yaml
from typer.testing import CliRunner, Result

from client import home
from client.commands import agent, node
from client.errors import InvalidInputError

cli = typer.Typer(pretty_exceptions_enable=False)
node.register(cli)
agent.register(cli)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_probe_prints_inventory_and_one_sample() -> None:
    result = run("probe", "--simulated-devices", "1xA100:40960", "-o", "json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["inventory"]["host"]["cpu_milli"] > 0
    assert data["host"]["memory_total_mib"] > 0
    [device] = data["inventory"]["devices"]
    assert (device["model"], device["memory_mib"], device["simulated"]) == ("A100", 40960, True)
    assert data["devices"][0]["utilization_percent"] is None


def test_probe_speaks_yaml_and_tables() -> None:
    assert yaml.safe_load(run("probe", "--no-nvml", "-o", "yaml").stdout)["devices"] == []
    table = run("probe", "--no-nvml").stdout
    assert "HOST" in table
    assert "NVML is switched off on this node" in table


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["probe", "--simulated-devices", "many"], "--simulated-devices"),
        (["agent", "--name", "has space"], "name"),
        (["agent", "--server", "nowhere"], "server"),
        (["agent", "--label", "novalue"], "--label"),
        (["agent", "--domain", "=r1"], "--domain"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], path: str) -> None:
    error = run(*arguments).exception
    assert isinstance(error, InvalidInputError)
    assert path in [fault.path.removeprefix("$.") for fault in error.faults]


def test_an_agent_without_any_token_ends_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path / "empty"))
    for name in ("STOWPLAN_JOIN_TOKEN", "STOWPLAN_AGENT_JOIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    result = run("agent", "--name", "n1", "--state-dir", str(tmp_path / "state"), "--no-nvml")
    structlog.reset_defaults()  # the agent had its lines sent to the runner's stderr
    assert result.exit_code == 2
    assert "join.token" in result.stderr


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STOWPLAN_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home.home_dir() == tmp_path / "stowplan"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert home.home_dir() == Path.home() / ".local/share/stowplan"
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path / "own"))
    assert home.home_dir() == tmp_path / "own"


def test_a_token_is_read_without_its_newline_and_may_be_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOWPLAN_HOME", str(tmp_path))
    assert home.read_token("join.token") is None
    (tmp_path / "join.token").write_text("secret\n")
    assert home.read_token("join.token") == "secret"


def test_a_unit_holds_the_options_but_never_a_token() -> None:
    text = run(
        "agent", "--label", "zone=a b", "--no-nvml", "--join-token", "secret-of-mine",
        "unit", "--server", "https://service:8470", "--user", "stow",
    ).stdout  # fmt: skip
    [command] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert command.endswith(
        'agent --server https://service:8470 --label "zone=a b" --no-nvml'
        " --state-dir /var/lib/stowplan/agent"
    )
    assert Path(command.removeprefix("ExecStart=").split()[0]).is_absolute()
    assert "secret-of-mine" not in text
    for line in ("KillMode=process", "Delegate=yes", "Restart=always", "OOMScoreAdjust=-900"):
        assert line in text.splitlines()
    assert "User=stow" in text


def test_a_unit_refuses_what_would_end_its_line() -> None:
    result = run("agent", "--address", "a\nExecStartPre=/bin/evil", "unit")
    assert isinstance(result.exception, InvalidInputError)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "stowplan-agent.service"
    file.write_text(run("agent", "--label", 'odd="%n $HOME', "unit").stdout)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # systemd before 254 doesn't know the key, and passes over it.
    said = [line for line in done.stderr.splitlines() if "'DelegateSubgroup'" not in line]
    assert (done.returncode, said) == (0, [])


def test_options_before_a_command_count_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(home.HOME_VARIABLE, str(tmp_path))
    result = run("agent", "--state-dir", str(tmp_path / "none"), "uninstall")
    assert result.exit_code == 0
    assert f"{tmp_path / 'none'} isn't there" in result.stderr
