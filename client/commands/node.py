"""`stowplan agent` and `stowplan probe`: this machine as a node."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import home
from client.commands.options import Output
from client.errors import Fault, InvalidInputError, faults_of
from client.output import Format, Table, show

if TYPE_CHECKING:
    from telemetry.collect import Collection

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


def register(cli: typer.Typer) -> None:
    cli.command("agent")(agent)
    cli.command("probe")(probe)


def agent(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            envvar=["STOWPLAN_AGENT_SERVER", "STOWPLAN_SERVER"],
            metavar="URL",
            help="The service. Default: the one that this machine's home names.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", envvar="STOWPLAN_AGENT_NAME", help="Default: the host's name."),
    ] = None,
    join_token: Annotated[
        str | None,
        typer.Option(
            "--join-token",
            envvar=["STOWPLAN_AGENT_JOIN_TOKEN", "STOWPLAN_JOIN_TOKEN"],
            metavar="TOKEN",
            help="For the first time only. Default: join.token in this machine's home.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            envvar="STOWPLAN_AGENT_STATE_DIR",
            metavar="DIR",
            help="Token and tasks; one agent each. Default: ~/.local/state/stowplan/NAME.",
            file_okay=False,
        ),
    ] = None,
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
    stop_tasks_on_exit: Annotated[
        bool,
        typer.Option(
            "--stop-tasks-on-exit",
            help="End the tasks with the agent. Without it they go on.",
        ),
    ] = False,
) -> None:
    """Make this machine a node: measure it, and run what the service assigns to it."""
    from pydantic import ValidationError

    from agent.settings import AgentSettings
    from agent.start import run
    from client.connection import resolve_server

    given: dict[str, Any] = {
        "server": resolve_server(server),
        "name": name,
        "join_token": join_token or home.read_token(JOIN_TOKEN_FILE),
        "state_dir": state_dir,
        "address": address,
        "labels": _pairs("--label", label),
        "domains": _pairs("--domain", domain),
        "simulated_devices": simulated_devices,
        "nvml_library": nvml_library,
        "nvml": False if no_nvml else None,
        "stop_tasks_on_exit": stop_tasks_on_exit or None,
    }
    try:
        settings = AgentSettings(
            **{key: value for key, value in given.items() if value is not None}
        )
    except ValidationError as error:
        faults = faults_of(error)
        raise InvalidInputError(f"{len(faults)} fault(s) in the settings", faults=faults) from error
    raise typer.Exit(run(settings))


def probe(
    output: Output = Format.TABLE,
    simulated_devices: Simulated = None,
    nvml_library: NvmlLibrary = None,
    no_nvml: NoNvml = False,
) -> None:
    """Print what this machine is, and one sample of what it is doing. Needs no service."""
    from dataclasses import asdict

    from telemetry.collect import make_collector

    try:
        collector = make_collector(
            node="this-node",
            disk=Path.cwd(),
            simulated_devices=simulated_devices,
            nvml=not no_nvml,
            nvml_library=nvml_library,
        )
    except ValueError as error:
        fault = Fault(path="--simulated-devices", value=simulated_devices, reason=str(error))
        raise InvalidInputError("no such devices", faults=[fault]) from error
    try:
        collection = collector.collect()
    finally:
        collector.close()
    data = {
        "inventory": asdict(collection.inventory),
        "host": asdict(collection.host) if collection.host else None,
        "devices": [asdict(sample) for sample in collection.devices],
        "faults": list(collection.faults),
    }
    show(data, output, table=_table(collection))


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


def _table(collection: "Collection") -> Table:
    """Everything known as two columns; what is unknown is left out."""
    inventory = collection.inventory
    rows = _rows("", inventory.host)
    rows += [
        (name, value)
        for name, value in (
            ("driver_version", inventory.driver_version),
            ("cuda_version", inventory.cuda_version),
            ("device_source", inventory.device_source),
            ("device_message", inventory.device_message),
        )
        if value is not None
    ]
    if collection.host is not None:
        rows += _rows("", collection.host)
    samples = {sample.uuid: sample for sample in collection.devices}
    for device in inventory.devices:
        prefix = f"device {device.index} "
        rows += _rows(prefix, device)
        if device.uuid in samples:
            rows += [row for row in _rows(prefix, samples[device.uuid]) if row not in rows]
    rows += [("fault", fault) for fault in collection.faults]
    return Table(columns=("WHAT", "VALUE"), rows=tuple(rows))


def _rows(prefix: str, value: Any) -> list[tuple[str, str]]:
    from dataclasses import asdict

    return [
        (prefix + name, _shown(field))
        for name, field in asdict(value).items()
        if field is not None and field != {}
    ]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {kind}" for key, kind in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(f"pid {one['pid']}: {one['memory_mib']} MiB" for one in value) or "none"
    return str(value)
