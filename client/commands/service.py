"""`stowplan serve` and `stowplan migrate`: the service on this machine."""

from typing import Annotated, Any

import typer

from client.commands.options import Home
from client.errors import InvalidInputError, StowplanError, faults_of
from client.output import say

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="STOWPLAN_DATABASE_URL",
        metavar="URL",
        help="Default: SQLite in the home. PostgreSQL: postgresql+psycopg://user:password@host/db.",
    ),
]


def register(cli: typer.Typer) -> None:
    cli.command("serve")(serve)
    cli.command("migrate")(migrate)


def serve(
    host: Annotated[
        str | None, typer.Option(envvar="STOWPLAN_HOST", help="Default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="STOWPLAN_PORT", help="Default: 8470; 0 takes any.", max=65535, min=0),
    ] = None,
    home: Home = None,
    database_url: DatabaseUrl = None,
    log_level: Annotated[
        str | None, typer.Option(envvar="STOWPLAN_LOG_LEVEL", help="debug, info, warning, error.")
    ] = None,
) -> None:
    """Run the service: store, plan, answer. Further settings come as STOWPLAN_* variables."""
    settings = _settings(
        host=host, port=port, home=home, database_url=database_url, log_level=log_level
    )
    from app.main import serve as serve_app

    raise typer.Exit(serve_app(settings))


def migrate(home: Home = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to this version's tables. `serve` does it too when it starts."""
    settings = _settings(home=home, database_url=database_url)
    import asyncio

    from app.db.engine import Database
    from app.db.migrate import Branch, upgrade

    settings.home_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def bring(url: str, branch: Branch) -> tuple[str | None, str | None]:
        database = Database(url)
        try:
            return await upgrade(database, branch)
        finally:
            await database.close()

    async def run() -> None:
        for what, url, branch in (
            ("database", settings.resolved_database_url, Branch.CONTROL),
            ("telemetry store", settings.resolved_telemetry_url, Branch.SAMPLES),
        ):
            before, after = await bring(url, branch)
            say(f"the {what} was at {before or 'nothing'} and is at {after}")

    asyncio.run(run())


def _settings(**given: Any) -> Any:
    """The service's settings: the options, above the environment, above the defaults.

    Raises:
        InvalidInputError: with every setting that is refused.
        StowplanError: the service isn't installed here.
    """
    from client.home import home_dir

    try:
        import ortools  # noqa: F401 - of the extra's packages: the settings alone need none
        import uvicorn  # noqa: F401
        from pydantic import ValidationError

        from app.settings import Settings
    except ModuleNotFoundError as error:
        raise StowplanError(
            f"the service isn't installed here ({error.name} is missing): "
            "pip install 'stowplan[server]'"
        ) from error
    values = {name: value for name, value in given.items() if value is not None}
    values.setdefault("home", home_dir())
    try:
        return Settings(**values)
    except ValidationError as error:
        faults = faults_of(error)
        raise InvalidInputError(f"{len(faults)} fault(s) in the settings", faults=faults) from error
