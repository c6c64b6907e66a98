"""How an attempt ended, in the words of the protocol and of people."""

import re
import signal
from pathlib import Path
from typing import Any

from protocol.report import Exit

_TAIL_BYTES = 4096
_LINE_MAX = 300
_REASON_MAX = 4000
# Terminal colours and other control bytes that programs write for a person at a terminal.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def describe(form: dict[str, Any], output: Path) -> Exit:
    """The exit of ``exit.json`` (:mod:`agent.shim`), with the last line of the output for a
    failure.
    """
    code, number, reason = form["code"], form["signal"], form["reason"]
    if not reason and code:
        reason = _with_last_line(f"exited with code {code}", output)
    if not reason and number is not None:
        reason = _with_last_line(f"killed by {_signal_name(number)}", output)
    return Exit(
        code=code,
        signal=number,
        stopped=form["stopped"],
        lost=form["lost"],
        cause=form.get("cause"),
        checkpoint=form.get("checkpoint"),
        reason=_CONTROL.sub(" ", reason)[:_REASON_MAX],
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
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in _CONTROL.sub("", text).splitlines() if line.strip()]
    return lines[-1][:_LINE_MAX] if lines else ""


def _with_last_line(what: str, output: Path) -> str:
    line = last_line(output)
    return f"{what}; its last line: {line}" if line else what


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = ", by the kernel when memory ran out or by somebody" if name == "SIGKILL" else ""
    return name + hint
