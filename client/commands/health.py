"""`stowplan quarantines`, `quarantine`, `release`, `findings`: what is amiss or out of use."""

from typing import Annotated

import typer

from client.commands.options import Output, Server, connect
from client.output import Format, say, show

Node = Annotated[str, typer.Argument(metavar="NODE")]
Gpu = Annotated[str, typer.Argument(metavar="GPU", help="Its index on the node, or its UUID.")]


def register(cli: typer.Typer) -> None:
    cli.command("quarantines")(list_quarantines)
    cli.command("quarantine")(quarantine)
    cli.command("release")(release)
    cli.command("findings")(findings)


def list_quarantines(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those that are over.")
    ] = False,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List devices that take no new task, why, and until when."""
    from client.health_view import quarantine_table

    with connect(server) as stowplan:
        found = list(stowplan.quarantines(everything=everything))
    show(found, output, table=quarantine_table(found, wide=output is Format.WIDE))


def quarantine(
    node: Node,
    gpu: Gpu,
    reason: Annotated[str, typer.Option(help="Why, for those who come after you.")],
    server: Server = None,
) -> None:
    """Give a device no new task until it's released; what runs there stays."""
    from client.views import device_name

    with connect(server) as stowplan:
        view = stowplan.quarantine(node, gpu, reason=reason)
    say(f"{view['node']} {device_name(view)} takes no new task: {view['reason']}")


def release(node: Node, gpu: Gpu, server: Server = None) -> None:
    """Let a device take tasks again, whatever kept it from it."""
    from client.errors import NotFoundError
    from client.views import device_name

    with connect(server) as stowplan:
        found = [
            one
            for one in stowplan.quarantines()
            if one["node"] == node and gpu in {one["uuid"], str(one["index"])}
        ]
        if not found:
            raise NotFoundError(
                f"GPU {gpu} of {node!r} isn't quarantined: see stowplan quarantines"
            )
        for one in found:
            view = stowplan.release(one["id"])
            say(f"{view['node']} {device_name(view)} is released from {view['code']}")


def findings(output: Output = Format.TABLE, server: Server = None) -> None:
    """List what is amiss now: idle tasks, devices out of service, nodes that measure nothing."""
    from client.health_view import finding_table

    with connect(server) as stowplan:
        found = stowplan.findings()
    show(found, output, table=finding_table(found))
