"""`stowplan agent` and `stowplan probe`: this machine as a node."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client import home
from client.commands.options import Output
from client.errors import Fault, InvalidInputError, faults_of
from client.output import Format, show_tables

if TYPE_CHECKING:
    from telemetry.collect import Collection, Collector

LOOK_AGAIN_SECONDS = 1.0
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
        "sample_interval_seconds": sample_interval,
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
    wait_seconds: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="At most, for sensors that tell only what was between two looks. 0: one look.",
        ),
    ] = 6.0,
) -> None:
    """Print what this machine is, and one sample of what it is doing. Needs no service."""
    import json
    from dataclasses import asdict

    from client.probe_view import probe_tables
    from telemetry.collect import make_collector
    from telemetry.probes.host_sources import missing_sources

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
        collection = _settled(collector, wait_seconds)
    finally:
        collector.close()
    gaps = missing_sources(collection.host) if collection.host else ()
    # By way of JSON: YAML knows no tuples and no enumerations.
    document = json.loads(
        json.dumps(asdict(collection) | {"missing": [asdict(gap) for gap in gaps]})
    )
    show_tables(document, output, tables=probe_tables(document, wide=output is Format.WIDE))


def _settled(collector: "Collector", wait_seconds: float) -> "Collection":
    """A round, or the last of several: some sensors tell nothing at the first look, and their
    device doesn't lack them.
    """
    collection = collector.collect()
    for _ in range(int(wait_seconds / LOOK_AGAIN_SECONDS)):
        if not _more_to_come(collection):
            break
        time.sleep(LOOK_AGAIN_SECONDS)
        collection = collector.collect()
    return collection


def _more_to_come(collection: "Collection") -> bool:
    from telemetry.columns import DEVICE

    unsupported = {device.uuid: device.unsupported for device in collection.inventory.devices}
    return any(
        getattr(sample, column.source) is None and column.source not in unsupported[sample.uuid]
        for sample in collection.devices
        if not sample.simulated
        for column in DEVICE
        if not column.source.startswith("foreign_")  # known to an agent only
    )


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
