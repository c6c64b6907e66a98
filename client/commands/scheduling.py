"""``stowplan schedule``: when each task of a project starts, serverless.

Exit codes: 0 done, 2 invalid input (every fault on stderr), 1 anything else. ``-`` reads stdin;
without ``--out`` the answer goes to stdout and nothing else does. A project that only the search
proves to be infeasible is an answer (status ``infeasible``), not a fault.
"""

import time
from dataclasses import replace
from typing import Annotated

import typer

from client.commands import files
from client.commands.files import Out


def register(cli: typer.Typer) -> None:
    """Adds the command to the command line."""
    cli.command("schedule")(schedule_file)


def schedule_file(
    project: Annotated[
        str, typer.Argument(help="A JSON file or a PSPLIB file (.sm), or - for stdin.")
    ],
    seconds: Annotated[float | None, typer.Option(help="Wall time to think, at most.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads of the exact search.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the searches.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same schedule on every run.")
    ] = False,
    out: Out = None,
) -> None:
    """Say when each task of a project starts."""
    changes = files.budget_changes(seconds, workers, seed, deterministic=deterministic)
    psplib = files.server_module("app.planning.psplib")
    pipeline = files.server_module("solver.scheduling.projects.pipeline")
    data = files.read(project)
    asked = files.valid(lambda: psplib.parse_project(data), "project")
    if changes:
        budget = replace(asked.budget, **changes)
        asked = files.valid(lambda: asked.with_budget(budget), "project")
    pipeline.load(asked)  # the budget is for thinking
    answer = pipeline.schedule(asked, clock=time.monotonic)
    files.write(files.documents().answer_bytes(answer), out)
    if answer.status == "infeasible":
        files.fail("no schedule of this project meets every deadline", files.EXIT_INVALID)
