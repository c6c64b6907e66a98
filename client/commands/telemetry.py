"""`stowplan telemetry export`: measurements as a file."""

import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from client.commands.options import Server, connect
from client.errors import InvalidInputError
from client.output import say
from client.quantities import seconds

telemetry = typer.Typer(
    name="telemetry", help="What was measured, taken out.", no_args_is_help=True
)


class _Of(StrEnum):
    NODE = "node"
    DEVICE = "device"
    TASK = "task"


class _Format(StrEnum):
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


class _Resolution(StrEnum):
    SAMPLES = "samples"
    MINUTES = "minutes"
    HOURS = "hours"


def register(cli: typer.Typer) -> None:
    cli.add_typer(telemetry)


@telemetry.command("export")
def export(
    of: Annotated[_Of, typer.Option("--of", help="Whose measurements.")] = _Of.DEVICE,
    format_: Annotated[_Format, typer.Option("--format", help="The file's form.")] = _Format.CSV,
    resolution: Annotated[
        _Resolution, typer.Option("--resolution", help="How much time a row stands for.")
    ] = _Resolution.MINUTES,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How far back, such as 90m or 7d.")
    ] = "1h",
    node: Annotated[str | None, typer.Option("--node", help="Of this node only.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Of this device only.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="Of this task's id only.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Default: standard output.")
    ] = None,
    server: Server = None,
) -> None:
    """Write measurements to a file or a pipe."""
    try:
        back_ms = round(seconds(since) * 1000)
    except ValueError as error:
        raise InvalidInputError(f"--since {since!r}: {error}") from None
    end_ms = time.time_ns() // 1_000_000
    query = {
        "of": of.value,
        "format": format_.value,
        "resolution": resolution.value,
        "start_ms": max(end_ms - back_ms, 0),
        "end_ms": end_ms,
        "node": node,
        "device": device,
        "task": task,
    }
    with connect(server) as stowplan:
        pieces = stowplan.telemetry.export(**query)
        first = next(pieces, b"")  # a refusal comes before any file is made
        if file is None:
            _write(sys.stdout.buffer, first, pieces)
            return
        with file.open("wb") as out:
            size = _write(out, first, pieces)
    say(f"{file}: {size} bytes")


def _write(out: BinaryIO, first: bytes, rest: Iterator[bytes]) -> int:
    """How many bytes it were."""
    size = out.write(first)
    for piece in rest:
        size += out.write(piece)
    return size
