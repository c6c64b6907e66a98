"""`stowplan eta` and `simulate`: when tasks start, and what changes would do."""

from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, connect
from client.output import Format, say, show, show_tables

if TYPE_CHECKING:
    from client.sdk import Json


def register(cli: typer.Typer) -> None:
    cli.command("eta")(eta)
    cli.command("simulate")(simulate)


def eta(
    task: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="Default: all that wait.")
    ] = None,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Say when tasks start that wait: by when in half of the cases, and in nine of ten."""
    from client.eta_view import eta_table

    with connect(server) as stowplan:
        found = list(stowplan.etas()) if task is None else stowplan.eta(task)
    show(found, output, table=eta_table(found if isinstance(found, list) else [found]))


def simulate(
    file: Annotated[
        str,
        typer.Argument(
            help="Changes as JSON or YAML (tasks, cancel, add_nodes, remove_nodes, queues, "
            "prices); - is stdin."
        ),
    ],
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Say what changes would do: when new tasks would start, and who would start at another time.

    Nothing is changed.
    """
    from client.submission import read_file

    changes = read_file(file, what="change")
    with connect(server) as stowplan:
        found = stowplan.simulate(changes)
    show_simulation(found, output)


def show_simulation(found: "Json", output: Format) -> None:
    """What would start when, and who is affected."""
    from client.eta_view import affected_table, new_table, simulation_note

    show_tables(found, output, tables=[new_table(found), affected_table(found)])
    if output in {Format.TABLE, Format.WIDE}:
        say(simulation_note(found))
