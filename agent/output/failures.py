"""What a failed program has left of its reason: the traceback of its first failure, or at least its
last lines.

Everything here was written by a task: it's read with bounds, links aren't followed, and nothing of
it is believed but as words for a person.
"""

import json
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from protocol.ranks import of_rank, tells_ranks

_TAIL_BYTES = 256 << 10
_NEAR_END_CHARS = 16 << 10
"""A traceback further from the end was of something that the program has survived."""
_LINES_SHOWN = 40
ERROR_MAX = 60_000
_LINE_MAX = 300
_FILES_MAX = 4096

_TRACEBACK = re.compile(
    r"^[ |+]*(?:Exception Group )?Traceback \(most recent call last\):", re.MULTILINE
)
_CHAINED = re.compile(
    r"(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):\s*\Z"
)
_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?"
    r"rank\s*: (?P<rank>\d+) \(local_rank: (?P<local_rank>\d+)\)\s*"
    r"exitcode\s*: (?P<exitcode>-?\d+)",
    re.DOTALL,
)
# Terminal colours and other control bytes that programs write for a person at a terminal.
_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """``line`` says it in one line, ``error`` in full."""

    line: str
    error: str
    rank: int | None = None
    """The first that failed, of a program of several ranks."""
    raised: bool = False
    """Whether the line is an exception's own, not only the last that was printed."""
    at_ms: int | None = None
    """When it was written, where that is known more exactly than by the program's end."""


def find(output: Path, ranks: Path) -> Failure:
    """The first failure of a program that has ended badly."""
    printed = tail(output)
    # torchrun may have started its ranks several times: the last is what ended it.
    if told := list(_ROOT_CAUSE.finditer(clean(printed))):
        return _of_rank(printed, ranks, told[-1])
    recorded = _recorded(ranks, None)
    if recorded is not None:
        return recorded
    # torch itself marks the lines of tracebacks by their rank, too.
    return _in_words(clean(_unmarked(printed) if tells_ranks(printed) else printed))


def _of_rank(printed: bytes, ranks: Path, told: re.Match[str]) -> Failure:
    rank, exit_code = int(told["rank"]), int(told["exitcode"])
    recorded = _recorded(ranks, told["local_rank"], rank)
    if recorded is not None:
        return recorded
    own, at_ms = _errors_of(ranks, told["local_rank"])
    if not own.strip():
        own = of_rank(printed, rank)
    found = _in_words(clean(_unmarked(own)))
    ended = f"ended by {signal_name(-exit_code)}" if exit_code < 0 else ""
    return Failure(
        line=found.line if found.raised or not ended else ended,
        error=found.error or told[0],
        rank=rank,
        raised=found.raised or bool(ended),
        at_ms=at_ms,
    )


def _in_words(text: str) -> Failure:
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1].strip()[:_LINE_MAX] if lines else ""
    traceback = _last_traceback(text)
    if traceback is None:
        return Failure(line=last, error=_bounded("\n".join(lines[-_LINES_SHOWN:])))
    return Failure(line=_exception_line(traceback) or last, error=_bounded(traceback), raised=True)


def _last_traceback(text: str) -> str | None:
    """The last traceback, together with those that led to it."""
    starts = [mark.start() for mark in _TRACEBACK.finditer(text)]
    if not starts:
        return None
    block = text[starts[-1] :]
    if len(block) - len(_stack(block)) > _NEAR_END_CHARS:
        return None
    first = len(starts) - 1
    while first > 0 and _CHAINED.search(text[starts[first - 1] : starts[first]]):
        first -= 1
    lines = text[starts[first] :].rstrip().splitlines()
    after = _stack(block).count("\n") + text[starts[first] : starts[-1]].count("\n")
    return "\n".join(lines[: after + _LINES_SHOWN])


def _stack(block: str) -> str:
    """The header and the frames of a traceback: up to its first line that isn't indented."""
    lines = block.splitlines(keepends=True)
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() and not line.startswith((" ", "\t")):
            return "".join(lines[:number])
    return block


def _exception_line(traceback: str) -> str:
    start = [mark.start() for mark in _TRACEBACK.finditer(traceback)][-1]
    block = traceback[start:]
    rest = block[len(_stack(block)) :].strip()
    return rest.splitlines()[0][:_LINE_MAX] if rest else ""


def _recorded(ranks: Path, local_rank: str | None, rank: int | None = None) -> Failure | None:
    """What torch's ``@record`` has written, of one rank or of whichever was the first."""
    found: list[tuple[float, Any]] = []
    for path, written in _latest(ranks, "error.json", local_rank):
        with suppress(OSError, ValueError):
            found.append((written, json.loads(_contents(path, _TAIL_BYTES)[0])))
    for written, form in sorted(found, key=lambda one: one[0]):
        message = form.get("message") if isinstance(form, dict) else None
        if not isinstance(message, dict):
            continue
        extra = message.get("extraInfo")
        stack = extra.get("py_callstack") if isinstance(extra, dict) else None
        line = clean(str(message.get("message", "")).encode(errors="replace"))
        error = clean(str(stack or line).encode(errors="replace"))
        if line.strip():
            return Failure(
                line=line.strip().splitlines()[0][:_LINE_MAX],
                error=_bounded(error),
                rank=rank,
                raised=True,
                at_ms=int(written * 1000),
            )
    return None


def _errors_of(ranks: Path, local_rank: str) -> tuple[bytes, int | None]:
    """The end of a rank's standard error, and when that was written."""
    for path, written in _latest(ranks, "stderr.log", local_rank):
        with suppress(OSError):
            data, _ = _contents(path, _TAIL_BYTES)
            if data.strip(b"\0\r\n \t"):
                return data, int(written * 1000)
    return b"", None


def _latest(ranks: Path, name: str, local_rank: str | None) -> list[tuple[Path, float]]:
    """The files of this name of torchrun's last start, ``ranks/RUN/attempt_N/LOCAL_RANK/NAME``,
    with the time of their last change.
    """
    found: list[tuple[int, Path, float]] = []
    for folder in _folders(ranks):
        attempt, rank = folder.parent.name, folder.name
        number = attempt.removeprefix("attempt_")
        if not number.isdigit() or (local_rank is not None and rank != local_rank):
            continue
        with suppress(OSError):
            at = (folder / name).lstat()
            if stat.S_ISREG(at.st_mode) and at.st_nlink == 1:
                found.append((int(number), folder / name, at.st_mtime))
    last = max((number for number, _, _ in found), default=0)
    return [(path, written) for number, path, written in found if number == last]


def _folders(ranks: Path) -> Iterator[Path]:
    for folder, _, _ in islice(os.walk(ranks, followlinks=False), _FILES_MAX):
        yield Path(folder)


def tail(path: Path) -> bytes:
    """The end of a file; empty when it can't be read."""
    try:
        return _contents(path, _TAIL_BYTES)[0]
    except OSError:
        return b""


def _contents(path: Path, count: int) -> tuple[bytes, os.stat_result]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no file")
        return os.pread(fd, count, max(0, found.st_size - count)), found
    finally:
        os.close(fd)


def _unmarked(data: bytes) -> bytes:
    return re.sub(rb"^(?:\[rank\d+\]: )+", b"", data, flags=re.MULTILINE)


def clean(data: bytes) -> str:
    """Text for a person, without what was meant for a terminal."""
    text = _CODES.sub("", data.decode(errors="replace"))
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _bounded(text: str) -> str:
    if len(text) <= ERROR_MAX:
        return text
    return text[: ERROR_MAX // 4] + "\n[...]\n" + text[-(ERROR_MAX * 3 // 4) + 8 :]


def signal_name(number: int) -> str:
    """``SIGTERM``, or ``signal 42`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
