"""``stowplan solve``, ``check``, ``draw``, ``replay``, ``schema``: the solver on files, serverless.

Exit codes: 0 done, 2 invalid input (every fault on stderr), 1 anything else. ``-`` reads stdin;
without ``--out`` the answer goes to stdout and nothing else does.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands import files
from client.commands.files import EXIT_FAILED, EXIT_INVALID, Out, Source
from solver.errors import Fault

if TYPE_CHECKING:
    from solver.plan import Plan
    from solver.problem import Problem


def register(cli: typer.Typer) -> None:
    """Adds the offline commands to the command line."""
    cli.command("solve")(solve_file)
    cli.command("check")(check_files)
    cli.command("draw")(draw_plan)
    cli.command("replay")(replay_trace)
    cli.command("schema")(print_schema)


def solve_file(
    problem: Source,
    seconds: Annotated[float | None, typer.Option(help="Wall time to think, at most.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads of the exact search.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the exact search.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same plan, to the byte, on every run.")
    ] = False,
    out: Out = None,
) -> None:
    """Place the tasks of a problem and print the plan."""
    changes = files.budget_changes(seconds, workers, seed, deterministic=deterministic)
    with _all_of_it_stays():
        documents = files.documents()
        asked = files.valid(lambda: documents.parse_problem(files.read(problem)))
        if changes:
            asked = files.valid(lambda: asked.with_budget(replace(asked.budget, **changes)))
        pipeline = files.server_module("solver.pipeline")
        pipeline.load(asked)  # the budget is for thinking
    plan = pipeline.solve(asked, clock=time.monotonic)
    files.write(documents.answer_bytes(plan), out)


def check_files(problem: Source, plan: Source, out: Out = None) -> None:
    """Say which rules a plan breaks and what it is worth, by the specification alone."""
    asked, answer = _problem_and_plan(problem, plan)
    check = import_module("solver.check")
    as_document = import_module("solver.replay").as_document
    found = check.violations(asked, answer)
    # The worth of placements that don't exist is no number.
    worth = () if any(violation.rule == "C1" for violation in found) else check.score(asked, answer)
    report = {
        "violations": [as_document(violation, leave_out_none=True) for violation in found],
        "score": [as_document(entry, leave_out_none=True) for entry in worth],
    }
    files.write(json.dumps(report, ensure_ascii=False).encode() + b"\n", out)
    if found:
        raise typer.Exit(EXIT_FAILED)


def draw_plan(
    problem: Source,
    plan: Source,
    colours: Annotated[
        str, typer.Option(help="What a colour stands for: task, queue or priority.")
    ] = "task",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the SVG there instead of to stdout.")
    ] = None,
) -> None:
    """Draw a plan: nodes x devices, and which task holds how much of each."""
    picture = import_module("solver.picture")
    if colours not in list(picture.ColourBy):
        known = ", ".join(picture.ColourBy)
        files.fail(f"a colour can't stand for {colours!r}; it can for {known}", EXIT_INVALID)
    asked, answer = _problem_and_plan(problem, plan)
    files.write(picture.draw(asked, answer, picture.ColourBy(colours)).encode(), out)


def replay_trace(
    nodes: Annotated[str, typer.Option(help="CSV: sn, cpu_milli, memory_mib, gpu, model.")],
    tasks: Annotated[
        str,
        typer.Option(help="CSV: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec."),
    ],
    max_moves: Annotated[
        int, typer.Option(min=0, help="Running tasks that may move for one arrival.")
    ] = 0,
    order: Annotated[str | None, typer.Option(help="Names of arriving tasks, one a line.")] = None,
    shuffle: Annotated[int | None, typer.Option(help="Seed of a random order.")] = None,
    inflate: Annotated[
        float | None,
        typer.Option(min=0, help="With --shuffle: clones until so many times the GPUs are asked."),
    ] = None,
    out: Out = None,
) -> None:
    """Place the tasks of a trace one at a time, in the order in which they arrive."""
    if order is not None and shuffle is not None:
        files.fail("--order and --shuffle are two orders; give one of them", EXIT_INVALID)
    if inflate is not None and shuffle is None:
        files.fail("--inflate needs --shuffle: the clones come in a random order", EXIT_INVALID)
    if [nodes, tasks, order].count("-") > 1:
        files.fail("only one of the files can be read from stdin", EXIT_INVALID)
    traces = import_module("app.planning.traces")
    faults: list[Fault] = []

    def parsed(parse: Callable[..., Any], name: str, *more: Any) -> Any:
        try:
            return parse(traces.Source(name=name, data=files.read(name)), *more)
        except traces.InvalidTrace as error:
            faults.extend(error.faults)
            return ()

    cluster = parsed(traces.parse_nodes, nodes)
    arrivals = parsed(traces.parse_tasks, tasks)
    if order is not None and not faults:  # names mean nothing beside a list that isn't one
        arrivals = parsed(traces.parse_order, order, arrivals)
    if shuffle is not None and not faults:
        try:
            arrivals = traces.shuffled(arrivals, cluster, seed=shuffle, inflate=inflate or 0.0)
        except traces.InvalidTrace as error:
            faults.extend(error.faults)
    if faults:
        files.list_faults("trace", tuple(faults))
        raise typer.Exit(EXIT_INVALID)
    report = files.server_module("app.planning.arrivals").replay(
        cluster,
        arrivals,
        max_moves=max_moves,
        clock=time.perf_counter,
        tell=_progress(len(arrivals)),
    )
    files.write(json.dumps(report, ensure_ascii=False).encode() + b"\n", out)


def _progress(total: int) -> Callable[[int], None]:
    """Shows on a terminal how far a replay is; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _: None

    def tell(index: int) -> None:
        if index % 100 == 0 or index + 1 == total:
            end = "\n" if index + 1 == total else ""
            sys.stderr.write(f"\r{index + 1} of {total} arrivals{end}")
            sys.stderr.flush()

    return tell


def print_schema(
    name: Annotated[str, typer.Argument(help="A form, such as problem, plan, jobs or program.")],
    out: Out = None,
) -> None:
    """Print the JSON Schema of a form."""
    documents = files.documents()
    if name not in documents.forms():
        known = ", ".join(documents.forms())
        files.fail(f"there is no form {name!r}; the forms are {known}", EXIT_INVALID)
    files.write(json.dumps(documents.schema(name), indent=2).encode() + b"\n", out)


@contextmanager
def _all_of_it_stays() -> Iterator[None]:
    """For reading and loading: nothing of it is garbage before the command ends, and to look for
    some takes a fifth of the time until a quick answer.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _problem_and_plan(problem: str, plan: str) -> "tuple[Problem, Plan]":
    if problem == plan == "-":
        files.fail("only one of the two files can be read from stdin", EXIT_INVALID)
    documents = files.documents()
    asked = files.valid(lambda: documents.parse_problem(files.read(problem)))
    return asked, files.valid(lambda: documents.parse_plan(files.read(plan)))
