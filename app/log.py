"""Logging: structlog, for a person on a terminal and as JSON anywhere else."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_SECRET_WORDS = ("token", "authorization", "password", "secret")


def configure(level: str, *, as_json: bool | None = None) -> None:
    """Send the service's log, and the libraries' warnings, to standard error."""
    json_lines = not sys.stderr.isatty() if as_json is None else as_json
    renderer = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lenient(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def get(name: str) -> FilteringBoundLogger:
    """A logger that names its part of the service."""
    return structlog.get_logger(part=name)


class _Lenient:
    """A log that can't be written (its disk is full) must not stop what it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A token in a log is a token lost: drop the value of any key that sounds like one."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "[hidden]"
    return event
