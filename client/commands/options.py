"""Options that many commands share, and the way to the service."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.output import Format

if TYPE_CHECKING:
    from client.sdk import Client

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="STOWPLAN_SERVER",
        metavar="URL",
        help="The service. Default: the one that this machine's home names.",
        show_envvar=True,
    ),
]
Output = Annotated[
    Format, typer.Option("--output", "-o", help="How the answer is written.", case_sensitive=False)
]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="STOWPLAN_HOME",
        metavar="DIR",
        help="Where database and tokens are. Default: ~/.local/share/stowplan.",
        file_okay=False,
    ),
]
TaskReference = Annotated[
    str, typer.Argument(metavar="TASK", help="A task's id, or a name: then the newest of it.")
]


def connect(server: str | None) -> "Client":
    """A client of the service, by this machine's or the environment's token."""
    from client.sdk import Client

    return Client(server)
