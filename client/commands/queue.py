"""`stowplan queue` and `stowplan booking`: who tasks belong to, what is theirs, and nodes that are
somebody's for a while.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands.options import Output, Server, connect
from client.output import Format, say, show, show_lines, show_tables

if TYPE_CHECKING:
    from client.errors import Fault
    from client.sdk import Json

Name = Annotated[str, typer.Argument(metavar="NAME")]
Parent = Annotated[
    str | None, typer.Option("--parent", metavar="QUEUE", help="The queue above; '' for the top.")
]
Weight = Annotated[
    int | None, typer.Option("--weight", help="Its part of what the guarantees leave. Default: 1.")
]
Guaranteed = Annotated[
    list[str] | None,
    typer.Option(
        "--guaranteed",
        metavar="DIMENSION=QUANTITY",
        help="It can always have back: gpu_milli=16000, gpu_milli:H100=8000, memory_mib=64GiB; "
        "'none' takes it away. Repeatable.",
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="DIMENSION=QUANTITY", help="It never holds more. Repeatable."),
]
MinRuntime = Annotated[
    str | None,
    typer.Option(
        "--min-runtime",
        metavar="TIME",
        help="So long its tasks run before they're preempted: 10m; 'none' for the service's own.",
    ),
]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="For people.")]

queue_cli = typer.Typer(
    help="Queues: who tasks belong to, and how much is theirs.", no_args_is_help=True
)
booking_cli = typer.Typer(
    help="Bookings: nodes that are one queue's, or in maintenance, for a while.",
    no_args_is_help=True,
)


def register(cli: typer.Typer) -> None:
    cli.add_typer(queue_cli, name="queue")
    cli.add_typer(booking_cli, name="booking")


@queue_cli.command("ls")
def list_queues(
    dimension: Annotated[
        str, typer.Option("--dimension", help="What is shown: cpu_milli, gpu_milli:H100, ...")
    ] = "gpu_milli",
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List the tree of queues: what each holds, may hold, is guaranteed, and has used lately."""
    from client.queue_view import BAR_LEGEND, queue_table

    with connect(server) as stowplan:
        queues = list(stowplan.queues.all())
    wide = output is Format.WIDE
    show(queues, output, table=queue_table(queues, dimension=dimension, wide=wide))
    if wide:
        say(BAR_LEGEND)


@queue_cli.command("show")
def show_queue(name: Name, output: Output = Format.TABLE, server: Server = None) -> None:
    """Show one queue in every dimension."""
    from client.queue_view import queue_lines, queue_standing

    with connect(server) as stowplan:
        queue = stowplan.queues.get(name)
    if output in {Format.TABLE, Format.WIDE}:
        show_lines(queue, output, lines=queue_lines(queue))
    show_tables(queue, output, tables=[queue_standing(queue)])


@queue_cli.command("create")
def create_queue(
    name: Name,
    parent: Parent = None,
    weight: Weight = None,
    guaranteed: Guaranteed = None,
    limit: Limit = None,
    min_runtime: MinRuntime = None,
    comment: Comment = None,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Create a queue."""
    form = _form(parent, weight, guaranteed, limit, min_runtime, comment)
    for word in ("guaranteed", "limit"):
        if word in form:
            form[word] = {key: value for key, value in form[word].items() if value is not None}
    with connect(server) as stowplan:
        _tell(stowplan.queues.create(name, **form), "is there", output)


@queue_cli.command("set")
def set_queue(
    name: Name,
    parent: Parent = None,
    weight: Weight = None,
    guaranteed: Guaranteed = None,
    limit: Limit = None,
    min_runtime: MinRuntime = None,
    comment: Comment = None,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Change what is given of a queue; the rest stays."""
    form = _form(parent, weight, guaranteed, limit, min_runtime, comment)
    if not form:
        from client.errors import InvalidInputError

        raise InvalidInputError("say what is to change: --weight, --guaranteed, --limit, ...")
    with connect(server) as stowplan:
        _tell(stowplan.queues.change(name, **form), "is changed", output)


@queue_cli.command("rm")
def remove_queue(name: Name, server: Server = None) -> None:
    """Forget a queue that has none below it and no unfinished task."""
    with connect(server) as stowplan:
        stowplan.queues.remove(name)
    say(f"queue {name} is forgotten")


@booking_cli.command("ls")
def list_bookings(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those of the last 30 days that are over.")
    ] = False,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List bookings, the first to begin first."""
    from client.queue_view import booking_table

    with connect(server) as stowplan:
        found = list(stowplan.bookings.all(everything=everything))
    show(found, output, table=booking_table(found, wide=output is Format.WIDE))


@booking_cli.command("create")
def create_booking(
    name: Name,
    nodes: Annotated[list[str], typer.Argument(metavar="NODE...")],
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="WHEN", help="+2h or 2026-12-01T08:00. Default: now."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="WHEN", help="Likewise; +2h is from now.")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="In place of --end: 4h, 1d12h.")
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="QUEUE", help="Whose they are. Default: maintenance."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For people.")] = "",
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Book nodes for a queue, or for maintenance: who may not be there leaves in time."""
    from client.quantities import moment_text, seconds
    from client.queue_view import booking_table

    faults: list[Fault] = []
    form = {
        "starts_at": _read("--start", start, moment_text, faults),
        "ends_at": _read("--end", end, moment_text, faults),
        "duration_seconds": _read("--for", duration, seconds, faults),
    }
    _refuse(faults, "no such time")
    with connect(server) as stowplan:
        made = stowplan.bookings.create(name, nodes, queue=queue, reason=reason, **form)
    show(made, output, table=booking_table([made], wide=output is Format.WIDE))


@booking_cli.command("rm")
def end_booking(
    booking: Annotated[str, typer.Argument(metavar="BOOKING", help="Its name or id.")],
    server: Server = None,
) -> None:
    """End a booking now; one that hasn't begun is forgotten."""
    with connect(server) as stowplan:
        stowplan.bookings.end(booking)
    say(f"booking {booking} is over: its nodes are everybody's again")


def _form(
    parent: str | None,
    weight: int | None,
    guaranteed: list[str] | None,
    limit: list[str] | None,
    min_runtime: str | None,
    comment: str | None,
) -> dict[str, Any]:
    """The options that were given, as the service's forms have them; every fault at once."""
    faults: list[Fault] = []
    form: dict[str, Any] = {}
    if parent is not None:
        form["parent"] = parent or None
    if weight is not None:
        form["weight"] = weight
    for word, given in (("guaranteed", guaranteed), ("limit", limit)):
        if given:
            form[word] = _shares(f"--{word}", given, faults)
    if min_runtime is not None:
        from client.quantities import seconds

        none = min_runtime == "none"
        form["min_runtime_seconds"] = (
            None if none else _read("--min-runtime", min_runtime, seconds, faults)
        )
    if comment is not None:
        form["comment"] = comment
    _refuse(faults, "no such queue can be")
    return form


def _shares(option: str, given: list[str], faults: "list[Fault]") -> dict[str, int | None]:
    from client.quantities import share

    read = [_read(option, text, share, faults) for text in given]
    return dict(one for one in read if one is not None)


def _read(option: str, text: str | None, reader: Any, faults: "list[Fault]") -> Any:
    """What a text of an option says; None, with a fault, where it says nothing."""
    from client.errors import Fault

    if text is None:
        return None
    try:
        return reader(text)
    except ValueError as error:
        faults.append(Fault(path=option, value=text, reason=str(error)))
        return None


def _refuse(faults: "list[Fault]", detail: str) -> None:
    from client.errors import InvalidInputError

    if faults:
        raise InvalidInputError(f"{detail}: {len(faults)} fault(s)", faults=faults)


def _tell(queue: "Json", done: str, output: Format) -> None:
    from client.queue_view import queue_lines, queue_standing

    if output in {Format.TABLE, Format.WIDE}:
        say("\n".join(queue_lines(queue)))
        if queue_standing(queue).rows:
            show(queue, output, table=queue_standing(queue))
    else:
        show(queue, output, table=queue_standing(queue))
    for note in queue["notes"]:
        say(f"note: {note}")
    say(f"queue {queue['name']} {done}")
