"""`stowplan plans`, `plan`, `events`: what was decided, and what happened."""

import itertools
import json
import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from client.commands.options import Output, Server, connect
from client.output import Format, print_json, show, show_lines

if TYPE_CHECKING:
    from client.sdk import Json


def register(cli: typer.Typer) -> None:
    cli.command("plans")(list_plans)
    cli.command("plan")(show_plan)
    cli.command("events")(events)


def list_plans(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 20,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """List rounds of planning, newest first."""
    from client.views import plan_table

    with connect(server) as stowplan:
        plans = list(stowplan.plans(limit=limit))
    show(plans, output, table=plan_table(plans, wide=output is Format.WIDE))


def show_plan(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A plan's id.")],
    problem: Annotated[
        bool, typer.Option("--problem", help="Print the problem it answers, for `stowplan solve`.")
    ] = False,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Show one round of planning: its placements, reasons, bound and gap."""
    from client.views import plan_lines

    with connect(server) as stowplan:
        if problem:
            print_json(stowplan.problem(plan))
        else:
            view = stowplan.plan(plan)
            show_lines(view, output, lines=plan_lines(view))


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Begin with the last N.")] = 50,
    task: Annotated[str | None, typer.Option(help="Only of this task (id).")] = None,
    node: Annotated[str | None, typer.Option(help="Only of this node.")] = None,
    output: Output = Format.TABLE,
    server: Server = None,
) -> None:
    """Show what happened to tasks and nodes. With -f, JSON comes as one object a line."""
    from client.views import event_line

    with connect(server) as stowplan:
        after = 0
        newest = deque(maxlen=tail)
        for event in stowplan.events(task=task, node=node):
            newest.append(event)
            after = event["id"]
        if not follow:
            show_lines(list(newest), output, lines=[event_line(event) for event in newest])
            return
        coming = stowplan.events(after=after, task=task, node=node, follow=True)
        for event in itertools.chain(newest, coming):
            _print_event(event, output)


def _print_event(event: "Json", output: Format) -> None:
    """One event at once: one line, also as JSON, for a program that reads along."""
    from client.views import event_line

    if output is Format.JSON:
        sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("---\n" if output is Format.YAML else "")
        show_lines(event, output, lines=[event_line(event)])
    sys.stdout.flush()
