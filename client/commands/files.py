"""What the offline commands have in common: how they read, write, refuse and end.

Exit codes: 0 done, 2 invalid input (every fault on stderr), 1 anything else. ``-`` reads stdin;
without ``--out`` the answer goes to stdout and nothing else does.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Never, TypeVar

import typer

from solver.errors import Fault, InvalidPlan, InvalidProblem

EXIT_FAILED = 1
EXIT_INVALID = 2

T = TypeVar("T")

Source = Annotated[str, typer.Argument(help="A JSON file, or - for stdin.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write the JSON there instead of to stdout.")
]


def documents() -> ModuleType:
    return import_module("app.planning.documents")


def server_module(name: str) -> ModuleType:
    """A module that needs the ``server`` extra; without it the message says what to install."""
    try:
        module = import_module(name)
        import_module("ortools")
    except ModuleNotFoundError as error:
        fail(
            f"solving needs the package {error.name}, which isn't installed: "
            "pip install 'stowplan[server]'",
            EXIT_FAILED,
        )
    return module


def read(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        fail(f"{source} can't be read: {error.strerror}", EXIT_FAILED)


def valid(parse: Callable[[], T], kind: str | None = None) -> T:
    """What ``parse`` gives; ends the command with every fault on stderr when it refuses. ``kind``
    is what the person meant to give, if that's neither a problem nor a plan.
    """
    try:
        return parse()
    except (InvalidProblem, InvalidPlan) as error:
        known = "problem" if isinstance(error, InvalidProblem) else "plan"
        list_faults(kind or known, error.faults)
        raise typer.Exit(EXIT_INVALID) from None


def budget_changes(
    seconds: float | None, workers: int | None, seed: int | None, *, deterministic: bool
) -> dict[str, Any]:
    """What the options change of a document's budget."""
    given = {"seconds": seconds, "workers": workers, "seed": seed}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return changes | {"deterministic": True} if deterministic else changes


def list_faults(kind: str, faults: tuple[Fault, ...]) -> None:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    typer.echo(f"this is no valid {kind}: {count}", err=True)
    for fault in faults:
        typer.echo(f"  {fault}", err=True)


def write(data: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        fail(f"{out} can't be written: {error.strerror}", EXIT_FAILED)


def fail(message: str, code: int) -> Never:
    typer.echo(message, err=True)
    raise typer.Exit(code)
