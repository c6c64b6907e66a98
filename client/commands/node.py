"""`stowplan probe`: what this machine is and does, without a service."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.agent import NoNvml, NvmlLibrary, Simulated
from client.commands.options import Output
from client.errors import Fault, InvalidInputError
from client.output import Format, show_tables

if TYPE_CHECKING:
    from telemetry.collect import Collection, Collector

LOOK_AGAIN_SECONDS = 1.0


def register(cli: typer.Typer) -> None:
    cli.command("probe")(probe)


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
