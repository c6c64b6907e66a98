"""`stowplan agent`, and what belongs to a node's own machine: `doctor`, `unit`, `uninstall`."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import home
from client.commands.options import Output
from client.errors import ConflictError, Fault, InvalidInputError, faults_of
from client.output import Format, Table, say, show

if TYPE_CHECKING:
    from agent.settings import AgentSettings
    from agent.upkeep.checkup import Finding

JOIN_TOKEN_FILE = "join.token"  # noqa: S105 - the name of the file, not a token

Simulated = Annotated[
    str | None,
    typer.Option(
        "--simulated-devices",
        metavar="SPEC",
        envvar="STOWPLAN_AGENT_SIMULATED_DEVICES",
        help="Devices as accounting units, on a machine without a GPU: 2, or 2xA100:40960.",
    ),
]
NvmlLibrary = Annotated[
    Path | None,
    typer.Option(
        "--nvml-library",
        metavar="FILE",
        envvar="STOWPLAN_AGENT_NVML_LIBRARY",
        help="Load this in place of libnvidia-ml.so.1. Tasks never see it.",
        exists=True,
        dir_okay=False,
        resolve_path=True,
    ),
]
NoNvml = Annotated[bool, typer.Option("--no-nvml", help="Don't look for NVIDIA GPUs.")]
AgentServer = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar=["STOWPLAN_AGENT_SERVER", "STOWPLAN_SERVER"],
        metavar="URL",
        help="The service. Default: the one that this machine's home names.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", envvar="STOWPLAN_AGENT_NAME", help="Default: the host's name."),
]
JoinToken = Annotated[
    str | None,
    typer.Option(
        "--join-token",
        envvar=["STOWPLAN_AGENT_JOIN_TOKEN", "STOWPLAN_JOIN_TOKEN"],
        metavar="TOKEN",
        help="For the first time only. Default: join.token in this machine's home.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="STOWPLAN_AGENT_STATE_DIR",
        metavar="DIR",
        help="Token and tasks; one agent each. Default: ~/.local/state/stowplan/NAME.",
        file_okay=False,
    ),
]

cli = typer.Typer(
    invoke_without_command=True,
    help="Make this machine a node: measure it, and run what the service assigns to it.",
)


def register(above: typer.Typer) -> None:
    above.add_typer(cli, name="agent")


@cli.callback()
def agent(
    context: typer.Context,
    server: AgentServer = None,
    name: Name = None,
    join_token: JoinToken = None,
    state_dir: StateDir = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            envvar="STOWPLAN_AGENT_ADDRESS",
            help="Where others reach its tasks. Default: the address that reaches the service.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", metavar="KEY=VALUE", help="Topology: rack=r1. Repeatable."),
    ] = None,
    simulated_devices: Simulated = None,
    nvml_library: NvmlLibrary = None,
    no_nvml: NoNvml = False,
    sample_interval: Annotated[
        float | None,
        typer.Option(
            "--sample-interval",
            metavar="SECONDS",
            envvar="STOWPLAN_AGENT_SAMPLE_INTERVAL_SECONDS",
            help="Between two looks at the machine. Default: 1.",
        ),
    ] = None,
    stop_tasks_on_exit: Annotated[
        bool,
        typer.Option(
            "--stop-tasks-on-exit",
            help="End the tasks with the agent. Without it they go on.",
        ),
    ] = False,
) -> None:
    """Make this machine a node: measure it, and run what the service assigns to it.

    Without a command the agent runs here until it's told to leave.
    """
    given: dict[str, Any] = {
        "server": server,
        "name": name,
        "join_token": join_token,
        "state_dir": state_dir,
        "address": address,
        "labels": _pairs("--label", label),
        "domains": _pairs("--domain", domain),
        "simulated_devices": simulated_devices,
        "nvml_library": nvml_library,
        "nvml": False if no_nvml else None,
        "sample_interval_seconds": sample_interval,
        "stop_tasks_on_exit": stop_tasks_on_exit or None,
    }
    context.obj = given
    if context.invoked_subcommand is None:
        from agent.start import run

        raise typer.Exit(run(_settings(given)))


@cli.command()
def doctor(
    context: typer.Context,
    server: AgentServer = None,
    name: Name = None,
    join_token: JoinToken = None,
    state_dir: StateDir = None,
    output: Output = Format.TABLE,
) -> None:
    """Say whether this machine is fit to be a node, what is missing, and how to mend it.

    Exit code 1 when something fails. Looks, and changes nothing.
    """
    from agent.upkeep.checkup import Grade
    from agent.upkeep.doctor import examine

    found = examine(
        _settings(
            context.obj,
            server=server, name=name, join_token=join_token, state_dir=state_dir,
        )
    )  # fmt: skip
    show([asdict(one) for one in found], output, table=_finding_table(found))
    if any(one.grade is Grade.FAIL for one in found):
        raise typer.Exit(1)


def _finding_table(found: "list[Finding]") -> Table:
    return Table(
        columns=("CHECK", "STATE", "FOUND", "MEND"),
        rows=tuple((one.what, one.grade.value, one.found, one.mend or "-") for one in found),
    )


@cli.command()
def unit(
    context: typer.Context,
    server: AgentServer = None,
    name: Name = None,
    state_dir: StateDir = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="As whom the agent runs. Default: root."),
    ] = None,
) -> None:
    """Print a systemd unit for the agent, with the options given here and before `unit`.

    Upgrades and restarts leave its tasks running.
    """
    from agent.upkeep.unit import unit as text

    given = _merged(context.obj, server=server, name=name, state_dir=state_dir)
    if any(ord(character) < 32 for value in given.values() for character in str(value)):
        raise InvalidInputError("an option has a line break in it: no unit can hold that")
    typer.echo(text(_as_options(given), user=user), nl=False)


@cli.command()
def uninstall(
    context: typer.Context,
    server: AgentServer = None,
    name: Name = None,
    state_dir: StateDir = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it, and end an agent that runs there.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove what tasks have made (artifacts), too.")
    ] = False,
) -> None:
    """End this machine's tasks, tell the service, and remove what the agent keeps here."""
    from agent.upkeep.uninstall import NotNowError
    from agent.upkeep.uninstall import uninstall as undo

    settings = _settings(context.obj, server=server, name=name, state_dir=state_dir)
    try:
        undo(settings, also_running=yes, purge=purge, say=say)
    except NotNowError as error:
        raise ConflictError(str(error)) from error


def _merged(before: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """Options of a command, else those before it."""
    merged = {**before, **{key: value for key, value in given.items() if value is not None}}
    return {key: value for key, value in merged.items() if value is not None}


def _settings(before: Mapping[str, Any], **given: Any) -> "AgentSettings":
    from pydantic import ValidationError

    from agent.settings import AgentSettings
    from client.connection import resolve_server

    merged = _merged(before, **given)
    merged["server"] = resolve_server(merged.get("server"))
    token = merged.get("join_token") or home.read_token(JOIN_TOKEN_FILE)
    if token is not None:
        merged["join_token"] = token
    try:
        return AgentSettings(**merged)
    except ValidationError as error:
        faults = faults_of(error)
        raise InvalidInputError(f"{len(faults)} fault(s) in the settings", faults=faults) from error


_OPTION = {
    "labels": "--label",
    "domains": "--domain",
    "sample_interval_seconds": "--sample-interval",
}


def _as_options(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """As they'd be given on the command line, but for the token: any user may read a unit."""
    options: list[tuple[str, str]] = []
    for key, value in given.items():
        option = _OPTION.get(key, f"--{key.replace('_', '-')}")
        if key == "join_token":
            continue
        if key == "nvml":
            options.append(("--no-nvml", ""))
        elif isinstance(value, bool):
            options.append((option, ""))
        elif isinstance(value, dict):
            options += [(option, f"{name}={text}") for name, text in value.items()]
        else:
            options.append((option, str(value)))
    return options


def _pairs(option: str, texts: list[str] | None) -> dict[str, str] | None:
    """``KEY=VALUE`` texts as a mapping; None without any, so that the environment counts."""
    if not texts:
        return None
    faults = [
        Fault(path=option, value=text, reason="write KEY=VALUE")
        for text in texts
        if not text.partition("=")[0] or "=" not in text
    ]
    if faults:
        raise InvalidInputError(f"{len(faults)} fault(s) in {option}", faults=faults)
    return dict(text.split("=", 1) for text in texts)
