"""``stowplan allocate``: shares over time of a file of jobs, serverless.

Exit codes: 0 done, 2 invalid input (every fault on stderr; a deadline that can't be kept is one), 1
anything else. ``-`` reads stdin; without ``--out`` the answer goes to stdout and nothing else does.
"""

import time
from typing import Annotated

import typer

from client.commands import files
from client.commands.files import Out, Source


def register(cli: typer.Typer) -> None:
    """Adds the command to the command line."""
    cli.command("allocate")(allocate_file)


def allocate_file(
    jobs: Source,
    policy: Annotated[
        str | None,
        typer.Option(
            help="max_min_fairness, finish_time_fairness, makespan, max_throughput, min_cost or "
            "water_filling; without it the file's, else max_min_fairness."
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Share accelerators among jobs over time and print who gets how much."""
    allocating = files.server_module("app.planning.allocating")
    data = files.read(jobs)
    question = files.valid(lambda: allocating.asked(data, policy, path="--policy"), "allocation")
    found = files.valid(lambda: allocating.answer(question, time.perf_counter), "allocation")
    files.write(files.documents().answer_bytes(found), out)
