"""`stowplan nodes`, `top`, `cordon`, `uncordon`, `remove-node`: machines and what they do."""

from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, connect
from client.commands.tasks import watch_table
from client.output import Format, Table, say, show
from client.use_view import Sort

if TYPE_CHECKING:
    from client.sdk import Json

NodeName = Annotated[str, typer.Argument(metavar="NODE")]


def register(cli: typer.Typer) -> None:
    cli.command("nodes")(list_nodes)
    cli.command("top")(top)
    cli.command("cordon")(cordon)
    cli.command("uncordon")(uncordon)
    cli.command("remove-node")(remove_node)


def list_nodes(output: Output = Format.TABLE, server: Server = None) -> None:
    """List nodes and their devices, and which tasks hold them."""
    from client.views import node_table

    with connect(server) as stowplan:
        nodes = list(stowplan.nodes())
    show(nodes, output, table=node_table(nodes, wide=output is Format.WIDE))


def top(
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    interval_seconds: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between looks.")
    ] = 2.0,
    sort: Annotated[
        Sort, typer.Option("--sort", help="What has most of it comes first.")
    ] = Sort.NAME,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Watch what nodes and devices are doing, and for which tasks.

    BUSY is time in which something ran on a device; SM is how much of the chip it used, where the
    device can tell.
    """
    from client.use_view import use_table

    with connect(server) as stowplan:

        def look() -> "tuple[list[Json], Table]":
            latest = stowplan.latest()
            tasks = stowplan.tasks(states=("running", "stopping"))
            nodes = list(stowplan.nodes())
            return latest, use_table(nodes, latest, tasks=tasks, sort=sort, wide=True)

        if once:
            latest, table = look()
            show(latest, output, table=table)
        else:
            watch_table(look, output=output, interval_seconds=interval_seconds)


def cordon(node: NodeName, server: Server = None) -> None:
    """Give a node nothing new; what runs there stays."""
    with connect(server) as stowplan:
        view = stowplan.cordon(node)
    say(f"{view['name']} is cordoned: it gets no new task; {_held(view)}")


def uncordon(node: NodeName, server: Server = None) -> None:
    """Let a node take tasks again."""
    with connect(server) as stowplan:
        view = stowplan.uncordon(node)
    say(f"{view['name']} takes tasks again; {_held(view)}")


def remove_node(node: NodeName, server: Server = None) -> None:
    """Forget a node that is gone and holds no task."""
    with connect(server) as stowplan:
        stowplan.remove_node(node)
    say(f"{node} is forgotten; to join again it needs the join token")


def _held(node: "Json") -> str:
    names = sorted({use["name"] for device in node["devices"] for use in device["used_by"]})
    return f"its devices are held by {', '.join(names)}" if names else "no task holds its devices"
