"""`stowplan usage` and `advice`: what tasks use of what they hold."""

from typing import Annotated

import typer

from client.commands.options import Output, Server, TaskReference, connect
from client.output import Format, say, show


def register(cli: typer.Typer) -> None:
    cli.command("usage")(usage)
    cli.command("advice")(advice)


def usage(task: TaskReference, output: Output = Format.TABLE, server: Server = None) -> None:
    """Show what a task's last attempt used: peaks and percentiles."""
    from client.advice_view import usage_note, usage_table

    with connect(server) as stowplan:
        found = stowplan.usage(task)
    if output in {Format.TABLE, Format.WIDE}:
        say(usage_note(found))
    show(found, output, table=usage_table(found))


def advice(
    days: Annotated[
        float, typer.Option(min=0.01, max=3650, help="Also of tasks that ended so lately.")
    ] = 7.0,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List tasks that ask for more than they use, and what asking for less would save."""
    from client.advice_view import advice_table

    with connect(server) as stowplan:
        found = list(stowplan.advice(days=days))
    show(found, output, table=advice_table(found))
