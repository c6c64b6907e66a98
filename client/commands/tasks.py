"""`stowplan ps`, `show`, `logs`, `why`, `cancel`, `wait`: tasks, seen and ended."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, TaskReference, connect
from client.output import Format, Table, say, show, show_lines

if TYPE_CHECKING:
    from client.sdk import Client, Json

_ENDED_SHOWN = 20
_WHY_ASKED_MAX = 50
"""`ps` asks at most this many waiting tasks for their reasons: each is a request of its own."""

References = Annotated[
    list[str], typer.Argument(metavar="TASK...", help="Ids, or names: then the newest of each.")
]


def register(cli: typer.Typer) -> None:
    cli.command("ps")(list_tasks)
    cli.command("show")(show_task)
    cli.command("describe", hidden=True)(show_task)
    cli.command("logs")(logs)
    cli.command("why")(why)
    cli.command("cancel")(cancel)
    cli.command("wait")(wait)


def list_tasks(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help=f"Not only the {_ENDED_SHOWN} newest that ended.")
    ] = False,
    state: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    interval_seconds: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between looks with --watch.")
    ] = 1.0,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List tasks: where each runs, or why it waits."""
    with connect(server) as stowplan:

        def look() -> "tuple[list[Json], Table]":
            tasks = _tasks(
                stowplan, everything=everything, states=state or (), queue=queue, name=name
            )
            return tasks, _table(stowplan, tasks, output)

        if watch:
            watch_table(look, output=output, interval_seconds=interval_seconds)
        else:
            tasks, table = look()
            show(tasks, output, table=table)


def _tasks(
    stowplan: "Client",
    *,
    everything: bool,
    states: Iterable[str],
    queue: str | None,
    name: str | None,
) -> "list[Json]":
    from client.sdk import FINAL_TASK_STATES, LIVE_TASK_STATES

    if everything or states:
        return list(stowplan.tasks(states=states, queue=queue, name=name))
    live = stowplan.tasks(states=LIVE_TASK_STATES, queue=queue, name=name)
    ended = stowplan.tasks(states=FINAL_TASK_STATES, queue=queue, name=name, limit=_ENDED_SHOWN)
    # A task may end between the two questions and then be in both answers: the later one is right.
    found = {task["id"]: task for task in [*live, *ended]}
    return sorted(found.values(), key=lambda task: task["submitted_at"], reverse=True)


def _table(stowplan: "Client", tasks: "list[Json]", output: Format) -> Table:
    from client.views import reasons_text, task_table

    if output not in {Format.TABLE, Format.WIDE}:
        return Table(columns=(), rows=())
    waiting = [task["id"] for task in tasks if task["state"] == "pending"][:_WHY_ASKED_MAX]
    why = {task: reasons_text(stowplan.why(task)) for task in waiting}
    return task_table(tasks, why=why, wide=output is Format.WIDE)


def watch_table(
    look: "Callable[[], tuple[list[Json], Table]]", *, output: Format, interval_seconds: float
) -> None:
    """Show what ``look()`` gives, data and table, again and again, until Ctrl-C."""
    if not sys.stdout.isatty() or output not in {Format.TABLE, Format.WIDE}:
        shown = None
        while True:
            data, table = look()
            if table != shown or output not in {Format.TABLE, Format.WIDE}:
                show(data, output, table=table)
                sys.stdout.flush()
                shown = table
            time.sleep(interval_seconds)
    from rich.live import Live

    from client.output import rich_table

    with Live(rich_table(look()[1]), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval_seconds)
            live.update(rich_table(look()[1]), refresh=True)


def show_task(task: TaskReference, output: Output = Format.TABLE, server: Server = None) -> None:
    """Show everything about a task. (`describe` is the same.)"""
    from client.views import task_lines

    with connect(server) as stowplan:
        view = stowplan.task(task)
    show_lines(view, output, lines=task_lines(view))


def why(task: TaskReference, output: Output = Format.TABLE, server: Server = None) -> None:
    """Say where a task runs and by which plan; or why it waits, and what would place it."""
    from client.views import why_lines

    with connect(server) as stowplan:
        answer = stowplan.why(task)
    show_lines(answer, output, lines=why_lines(answer))


def logs(
    task: TaskReference,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the task has ended.")
    ] = False,
    replica: Annotated[
        int | None, typer.Option(min=0, help="Which replica. Default: the first.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=0, help="Only this rank's lines, by its number in the gang.")
    ] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Default: the newest.")] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Begin with the last N lines.")
    ] = None,
    server: Server = None,
) -> None:
    """Print what a replica, or one rank of a task, has written to its standard output and error."""
    with connect(server) as stowplan:
        print_log(
            stowplan.logs(
                task,
                replica=replica,
                rank=rank,
                generation=attempt,
                tail_lines=tail,
                follow=follow,
            )
        )


def cancel(tasks: References, server: Server = None) -> None:
    """End tasks: at once while they wait, by SIGTERM and its grace while they run."""
    from client.errors import StowplanError
    from client.output import complain

    failed = None
    with connect(server) as stowplan:
        for task in tasks:
            try:
                view = stowplan.cancel(task)
            except StowplanError as error:
                complain(error)
                failed = error
            else:
                say(f"{view['name']} ({view['id']}): {view['state']}")
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def wait(tasks: References, server: Server = None) -> None:
    """Wait until tasks have ended. The exit code is 0 when all of them succeeded."""
    with connect(server) as stowplan:
        if not wait_for(stowplan, tasks):
            raise typer.Exit(1)


def wait_for(stowplan: "Client", tasks: Iterable[str]) -> bool:
    """Wait for each task and tell how it ended; True when all succeeded."""
    views = [stowplan.wait(task) for task in tasks]
    for view in views:
        reason = f": {view['reason']}" if view["reason"] else ""
        say(f"{view['name']} ({view['id']}) {view['state']}{reason}")
    return all(view["state"] == "succeeded" for view in views)


def print_log(pieces: Iterable[str]) -> None:
    """Print output as it comes, each piece at once."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
