"""`stowplan nodes`, `top`, `cordon`, `drain`, `maintenance`, `uncordon`, `declare-lost`,
`remove-node`, `join-token`: machines, what they do, and how they come and go.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, connect
from client.commands.tasks import watch_table
from client.output import Format, Table, say, show, show_lines
from client.use_view import Sort

if TYPE_CHECKING:
    from client.sdk import Client, Json

NodeName = Annotated[str, typer.Argument(metavar="NODE")]
Deadline = Annotated[
    str,
    typer.Option(
        "--deadline",
        metavar="TIME",
        help="What still runs there then is killed: 90s, 10m, 1h30m.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Until no task is left there.")]
_LOOK_AGAIN_SECONDS = 1.0
_TASKS_NAMED_MAX = 8

join_token_cli = typer.Typer(
    help="Tokens with which machines join, so many times and for so long.", no_args_is_help=True
)


def register(cli: typer.Typer) -> None:
    cli.command("nodes")(list_nodes)
    cli.command("top")(top)
    cli.command("cordon")(cordon)
    cli.command("drain")(drain)
    cli.command("maintenance")(maintenance)
    cli.command("uncordon")(uncordon)
    cli.command("undrain")(uncordon)
    cli.command("declare-lost")(declare_lost)
    cli.command("remove-node")(remove_node)
    cli.add_typer(join_token_cli, name="join-token")


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


def drain(
    node: NodeName,
    deadline: Deadline = "10m",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")] = "",
    wait: Wait = False,
    server: Server = None,
) -> None:
    """Have a node's tasks leave it, checkpoint first, and give it nothing new.

    Tasks that may not be preempted have until the deadline to end by themselves. `uncordon` ends
    it.
    """
    deadline_seconds = _seconds(deadline)
    with connect(server) as stowplan:
        view = stowplan.drain(node, deadline_seconds=deadline_seconds, reason=reason)
        _tell_drain(stowplan, view, wait=wait)


def maintenance(
    node: NodeName,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")],
    deadline: Deadline = "10m",
    wait: Wait = False,
    server: Server = None,
) -> None:
    """Drain a node to work on it: its silence raises no alarm until it's uncordoned."""
    deadline_seconds = _seconds(deadline)
    with connect(server) as stowplan:
        view = stowplan.maintenance(node, deadline_seconds=deadline_seconds, reason=reason)
        _tell_drain(stowplan, view, wait=wait)


def _seconds(deadline: str) -> float:
    from client.errors import Fault, InvalidInputError
    from client.quantities import seconds

    try:
        return seconds(deadline)
    except ValueError as error:
        fault = Fault(path="--deadline", value=deadline, reason=str(error))
        raise InvalidInputError("no such deadline", faults=[fault]) from None


def _tell_drain(stowplan: "Client", view: "Json", *, wait: bool) -> None:
    import time

    from client.views import moment

    name = view["name"]
    if view["leaving"]:
        until = moment(view["drain_until"])
        say(f"{name} gets no new task; {_tasks_in_words(view)} to leave by {until}")
    if view["state"] != "ready" and view["leaving"]:
        say(f"{name} is {view['state']}: it hears of this when it speaks again")
    while wait and view["leaving"] and not view["schedulable"]:
        time.sleep(_LOOK_AGAIN_SECONDS)
        view = stowplan.node(name)
    if view["schedulable"]:
        from client.errors import ConflictError

        raise ConflictError(f"{name} was uncordoned meanwhile: it is drained no more")
    if not view["leaving"]:
        say(f"{name} is drained: no task is left on it")


def _tasks_in_words(view: "Json") -> str:
    names = [task["name"] for task in view["tasks"]]
    rest = len(names) - _TASKS_NAMED_MAX
    named = ", ".join(names[:_TASKS_NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(names)} task{'' if len(names) == 1 else 's'} ({named})" if names else "no task"


def declare_lost(
    node: NodeName,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: the machine is gone.")] = False,
    server: Server = None,
) -> None:
    """Say that a silent node is gone for good, so that its tasks are placed elsewhere.

    Also those that it was to keep. Should it be alive after all, they run twice until it is
    reached again.
    """
    with connect(server) as stowplan:
        if not yes:
            from client.errors import ConflictError

            view = stowplan.node(node)
            raise ConflictError(
                f"this ends {_tasks_in_words(view)} on {node} ({view['state']}) as far as the "
                "service is concerned, and places what may run again elsewhere. Nothing was done: "
                "make sure that the machine is off, then say --yes"
            )
        before = stowplan.node(node)
        stowplan.declare_lost(node)
    say(f"{node} is lost: {_tasks_in_words(before)} ended there")


@join_token_cli.command("create")
def create_join_token(
    uses: Annotated[int, typer.Option("--uses", help="How many machines may join with it.")] = 1,
    hours: Annotated[float, typer.Option("--hours", help="For how long.")] = 24.0,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Make a join token and print it: this once."""
    from client.views import moment

    with connect(server) as stowplan:
        made = stowplan.join_tokens.create(uses=uses, hours=hours)
    show_lines(made, output, lines=[made["token"]])
    left = made["uses_left"]
    say(
        f"{made['id']}: for {left} machine{'' if left == 1 else 's'} until "
        f"{moment(made['expires_at'])}: stowplan agent --join-token TOKEN"
    )


@join_token_cli.command("list")
def list_join_tokens(output: Output = Format.TABLE, server: Server = None) -> None:
    """List join tokens but the permanent one, without their words."""
    from client.views import join_token_table

    with connect(server) as stowplan:
        tokens = list(stowplan.join_tokens.all())
    show(tokens, output, table=join_token_table(tokens))


@join_token_cli.command("revoke")
def revoke_join_token(
    token: Annotated[str, typer.Argument(metavar="ID", help="Of `stowplan join-token list`.")],
    server: Server = None,
) -> None:
    """Void a join token. Nodes that have joined with it stay."""
    with connect(server) as stowplan:
        stowplan.join_tokens.revoke(token)
    say(f"{token} is void")


def uncordon(node: NodeName, server: Server = None) -> None:
    """Let a node take tasks again; that also ends a drain and maintenance."""
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
