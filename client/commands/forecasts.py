"""`stowplan forecast`: how long a task is going to run."""

from typing import Annotated

import typer

from client.commands.options import Output, Server, connect
from client.output import Format, show_lines


def register(cli: typer.Typer) -> None:
    cli.command("forecast")(forecast)


def forecast(
    task: Annotated[
        str | None, typer.Argument(help="Id, or name: then the newest of it.", show_default=False)
    ] = None,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Instead: whether forecasts have held lately.")
    ] = False,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Say how long a task is going to run, from how long those like it did."""
    from client.forecast_view import calibration_lines, forecast_lines

    if (task is None) is not calibration:
        raise typer.BadParameter("give a task, or --calibration")
    with connect(server) as stowplan:
        if task is None:
            found = stowplan.calibration()
            lines = calibration_lines(found)
        else:
            found = stowplan.forecast(task)
            lines = forecast_lines(found)
    show_lines(found, output, lines=lines)
