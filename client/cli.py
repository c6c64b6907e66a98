"""The `stowplan` command. What a command needs is imported when it runs: `--help` comes at once."""

import contextlib
import os
import sys
from collections.abc import Sequence

import typer

from client.commands import (
    advice,
    agent,
    allocation,
    cluster,
    demo,
    eta,
    forecasts,
    health,
    history,
    node,
    offline,
    queue,
    scheduling,
    service,
    submit,
    tasks,
    telemetry,
)
from client.errors import EXIT_FAILED, EXIT_INTERRUPTED, StowplanError
from client.output import complain, say

TRACEBACK_VARIABLE = "STOWPLAN_TRACEBACK"

cli = typer.Typer(
    name="stowplan",
    help="Decides which training and inference task runs on which GPU of which node, and says why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@cli.command()
def version() -> None:
    """Print the version."""
    from importlib import metadata

    typer.echo(metadata.version("stowplan"))


for _module in (
    submit, tasks, eta, cluster, queue, health, advice, forecasts, telemetry, history, service,
    agent, node, offline, allocation, scheduling, demo,
):  # fmt: skip
    _module.register(cli)


def main() -> None:
    """The entry point of the `stowplan` script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0 done, 2 invalid input, 130 Ctrl-C, 1 anything else.

    No traceback reaches the person, unless the variable ``STOWPLAN_TRACEBACK`` is set.
    """
    try:
        cli(args=list(arguments), prog_name="stowplan")
    except SystemExit as end:
        return _flushed(end.code if isinstance(end.code, int) else EXIT_FAILED)
    except StowplanError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _quiet_pipe()
    except Exception as error:  # the last border before the person
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        say(
            f"stowplan: internal error: {type(error).__name__}: {error}\n"
            f"  set {TRACEBACK_VARIABLE}=1 to see where, and please report it"
        )
        return EXIT_FAILED
    return _flushed(0)


def _flushed(code: int) -> int:
    """The code, once all output is out: a reader that went away is noticed here, not at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet_pipe()
    return code


def _quiet_pipe() -> int:
    """Nobody reads any more (`stowplan ps | head`): be silent, also when Python flushes at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


if __name__ == "__main__":
    main()
