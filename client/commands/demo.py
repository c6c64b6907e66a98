"""`stowplan demo`: see it work."""

import sys
from typing import Annotated

import typer


def register(cli: typer.Typer) -> None:
    cli.command("demo")(demo)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the summary, also on a terminal.")
    ] = False,
) -> None:
    """Run a service, two agents and four torch tasks on this machine, in a home of their own.

    On a terminal it stays until Ctrl-C; elsewhere it ends by itself, with 0 when all went well.
    """
    from client.demo.run import run

    raise typer.Exit(run(stays=sys.stdout.isatty() and not once))
