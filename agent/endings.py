"""How an attempt ended, in the words of the protocol and of people."""

import os
import re
from pathlib import Path
from typing import Any, TypeVar

from agent.output import failures
from agent.output.failures import Failure
from protocol.desired import StopCause
from protocol.report import Exit, Saved

_LINE_MAX = 300
_REASON_MAX = 4000
_FULL_DISK_BYTES = 64 << 10
_Word = TypeVar("_Word", StopCause, Saved)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def describe(form: dict[str, Any], output: Path, ranks: Path, *, memory_mib: int = 0) -> Exit:
    """The exit of ``exit.json`` (:mod:`agent.shim`), with what its output tells of a failure.

    ``ranks`` is where torchrun has kept the output of its ranks, ``memory_mib`` the replica's room.
    """
    code, number, reason = form["code"], form["signal"], form["reason"]
    failure = None
    if not reason and (code or number is not None):
        failure = failures.find(output, ranks)
        reason = _failed(form, failure, memory_mib) + _full_disk(output)
    return Exit(
        code=code,
        signal=number,
        stopped=form["stopped"],
        lost=form["lost"],
        cause=_member(StopCause, form.get("cause")),
        checkpoint=_member(Saved, form.get("checkpoint")),
        reason=_CONTROL.sub(" ", reason)[:_REASON_MAX],
        error=failure.error if failure else "",
        failed_at_ms=failure.at_ms if failure else None,
        at_ms=form["at_ms"],
    )


def lost(reason: str, *, at_ms: int, stopped: bool = False) -> dict[str, Any]:
    """An ``exit.json`` for an attempt whose end nobody saw."""
    return {
        "code": None,
        "signal": None,
        "stopped": stopped,
        "lost": True,
        "reason": reason,
        "at_ms": at_ms,
    }


def last_line(path: Path) -> str:
    """The last line of a file that says something; empty when there is none."""
    lines = [line.strip() for line in failures.clean(failures.tail(path)).splitlines()]
    return next((line[:_LINE_MAX] for line in reversed(lines) if line), "")


def _failed(form: dict[str, Any], failure: Failure, memory_mib: int) -> str:
    code, number = form["code"], form["signal"]
    if form.get("oom"):
        room = f"its {memory_mib} MiB of memory (memory_mib)" if memory_mib else "the memory there"
        return f"killed by the kernel: it used more than {room}"
    how = f"exited with code {code}" if number is None else f"killed by {_by_whom(number)}"
    if not failure.line:
        return how
    if failure.rank is not None:
        return f"{how}; rank {failure.rank}: {failure.line}"
    return f"{how}: {failure.line}" if failure.raised else f"{how}; its last line: {failure.line}"


def _by_whom(number: int) -> str:
    name = failures.signal_name(number)
    hint = ", by the kernel when memory ran out or by somebody" if name == "SIGKILL" else ""
    return name + hint


def _full_disk(output: Path) -> str:
    """What a program that fails for want of room can't write down itself."""
    try:
        found = os.statvfs(output.parent)
    except OSError:
        return ""
    if not found.f_blocks or found.f_bavail * found.f_frsize >= _FULL_DISK_BYTES:
        return ""
    return f"; the disk of this node is full ({output.parent})"


def _member(kind: type[_Word], value: Any) -> _Word | None:
    return kind(value) if value in set(kind) else None
