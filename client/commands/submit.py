"""`stowplan submit`: hand a program to the service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, connect
from client.commands.tasks import print_log, wait_for
from client.output import Format, say, show

if TYPE_CHECKING:
    from client.sdk import Json

_WHAT, _NEEDS, _WHERE, _LIFE = (
    "What runs",
    "What each replica needs",
    "Where it may run",
    "Its life",
)

Gpus = Annotated[int | None, typer.Option(help="Number of devices.", rich_help_panel=_NEEDS)]
Text = str | None


def register(cli: typer.Typer) -> None:
    # Options end where the program begins: the program's own options need no `--` before it.
    cli.command(context_settings={"allow_interspersed_args": False})(submit)


def submit(
    argv: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="Executed as it stands, no shell."),
    ] = None,
    name: Annotated[Text, typer.Option(help="For people.", rich_help_panel=_WHAT)] = None,
    file: Annotated[
        Text,
        typer.Option(
            "--file", "-f", help="A task as JSON or YAML; - is stdin.", rich_help_panel=_WHAT
        ),
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="Default: the current directory.", rich_help_panel=_WHAT),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", rich_help_panel=_WHAT)
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Runs until it is cancelled.", rich_help_panel=_WHAT)
    ] = False,
    comment: Annotated[Text, typer.Option(rich_help_panel=_WHAT)] = None,
    replicas: Annotated[
        int | None, typer.Option(help="A gang: together or not at all.", rich_help_panel=_NEEDS)
    ] = None,
    min_replicas: Annotated[
        int | None, typer.Option(help="A gang may start with these.", rich_help_panel=_NEEDS)
    ] = None,
    gpus: Gpus = None,
    gpu_milli: Annotated[
        int | None, typer.Option(help="Thousandths of one device.", rich_help_panel=_NEEDS)
    ] = None,
    gpu_memory: Annotated[
        Text, typer.Option(help="On each device, such as 16GiB.", rich_help_panel=_NEEDS)
    ] = None,
    gpu_memory_mib: Annotated[int | None, typer.Option(rich_help_panel=_NEEDS)] = None,
    cpus: Annotated[Text, typer.Option(help="Cores: 2, 0.5, 500m.", rich_help_panel=_NEEDS)] = None,
    cpu_milli: Annotated[int | None, typer.Option(rich_help_panel=_NEEDS)] = None,
    memory: Annotated[Text, typer.Option(help="Such as 4GiB.", rich_help_panel=_NEEDS)] = None,
    memory_mib: Annotated[int | None, typer.Option(rich_help_panel=_NEEDS)] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Any of these models.", rich_help_panel=_WHERE)
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=A[,B...]", help="Nodes so labelled.", rich_help_panel=_WHERE),
    ] = None,
    pack_within: Annotated[
        Text, typer.Option(help="All replicas in one of this domain.", rich_help_panel=_WHERE)
    ] = None,
    spread_over: Annotated[
        Text, typer.Option(help="Replicas spread evenly over it.", rich_help_panel=_WHERE)
    ] = None,
    separate_from: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="By id.", rich_help_panel=_WHERE)
    ] = None,
    queue: Annotated[Text, typer.Option(rich_help_panel=_LIFE)] = None,
    priority: Annotated[int | None, typer.Option(rich_help_panel=_LIFE)] = None,
    duration: Annotated[
        Text, typer.Option(help="Expected: 90s, 1h30m.", rich_help_panel=_LIFE)
    ] = None,
    grace: Annotated[
        Text, typer.Option(help="Between SIGTERM and SIGKILL.", rich_help_panel=_LIFE)
    ] = None,
    max_restarts: Annotated[
        int | None,
        typer.Option(help="Default: 0, of a service no limit.", rich_help_panel=_LIFE),
    ] = None,
    restart_delay: Annotated[
        Text, typer.Option(help="After a failure; doubles each time.", rich_help_panel=_LIFE)
    ] = None,
    checkpoint: Annotated[
        Text,
        typer.Option(
            metavar="file|SIGTERM|SIGUSR1|SIGUSR2",
            help="How it's asked to save before a stop.",
            rich_help_panel=_LIFE,
        ),
    ] = None,
    on_lease_lost: Annotated[
        Text,
        typer.Option(
            metavar="fence|keep", help="When its node can't reach us.", rich_help_panel=_LIFE
        ),
    ] = None,
    ready_path: Annotated[
        Text, typer.Option(help="Of a service: ready while GET passes.", rich_help_panel=_LIFE)
    ] = None,
    health_path: Annotated[
        Text, typer.Option(help="Of a service: restarted when GET fails.", rich_help_panel=_LIFE)
    ] = None,
    drain: Annotated[
        Text,
        typer.Option(help="Of a service: from not ready to SIGTERM.", rich_help_panel=_LIFE),
    ] = None,
    pids_max: Annotated[
        int | None, typer.Option(help="Processes and threads.", rich_help_panel=_NEEDS)
    ] = None,
    gpu_overuse: Annotated[
        Text,
        typer.Option(metavar="warn|stop", help="Beyond its GPU memory.", rich_help_panel=_NEEDS),
    ] = None,
    enforce: Annotated[
        list[str] | None,
        typer.Option(
            metavar="cpu|memory|pids",
            help="Only on nodes that hold it to that by force.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print its output until it has ended.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say when it would start, and who later for it."),
    ] = False,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Submit a task and print its id.

    With --wait or --follow the exit code is 0 when the task succeeded.
    """
    from client.submission import Options, build

    spec = build(
        Options(
            argv=tuple(argv or ()),
            file=file,
            name=name,
            service=service,
            gpus=gpus,
            gpu_milli=gpu_milli,
            gpu_memory=gpu_memory,
            gpu_memory_mib=gpu_memory_mib,
            cpus=cpus,
            cpu_milli=cpu_milli,
            memory=memory,
            memory_mib=memory_mib,
            replicas=replicas,
            min_replicas=min_replicas,
            queue=queue,
            priority=priority,
            models=tuple(model or ()),
            select=tuple(select or ()),
            pack_within=pack_within,
            spread_over=spread_over,
            separate_from=tuple(separate_from or ()),
            env=tuple(env or ()),
            working_dir=None if working_dir is None else str(working_dir.absolute()),
            duration=duration,
            grace=grace,
            max_restarts=max_restarts,
            restart_delay=restart_delay,
            checkpoint=checkpoint,
            on_lease_lost=on_lease_lost,
            ready_path=ready_path,
            health_path=health_path,
            drain=drain,
            pids_max=pids_max,
            gpu_overuse=gpu_overuse,
            enforce=tuple(enforce or ()),
            comment=comment,
        ),
        current_dir=str(Path.cwd()),
    )
    with connect(server) as stowplan:
        if dry_run:
            from client.commands.eta import show_simulation

            show_simulation(stowplan.simulate({"tasks": [spec]}), output)
            return
        task = stowplan.submit(spec)
        if follow:
            say(f"submitted {task['name']} as {task['id']}")
            print_log(stowplan.logs(task["id"]))
        else:
            _print_task(task, output)
        if (wait or follow) and not wait_for(stowplan, [task["id"]]):
            raise typer.Exit(1)


def _print_task(task: "Json", output: Format) -> None:
    if output is Format.TABLE:
        typer.echo(task["id"])
    else:
        from client.views import task_table

        show(task, output, table=task_table([task], why={}, wide=True))
