"""The solver's child process: questions come in on standard input, answers go out on the output.

A process that may be killed at any moment is the only real deadline that compiled solvers obey.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from app.planning.documents import answer_bytes
from app.planning.framing import ANSWER, FAULTS, LENGTH, READY, budget_seconds
from app.planning.questions import BY_SIGN
from solver import pipeline  # noqa: F401 - most questions are its; loaded before the first comes
from solver.errors import Fault, InvalidProblem


def main(longest_seconds: float) -> None:
    """Answer problems until the parent is gone; a budget above the longest is a fault."""
    inbox, outbox = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the framing
    write(outbox, READY)
    while (message := read(inbox)) is not None:
        for part in answer(message, longest_seconds):
            write(outbox, part)


def answer(message: bytes, longest_seconds: float) -> Iterator[bytes]:
    """``READY`` when the budget begins to count, then the answer; or every fault of the
    document."""
    question, document = BY_SIGN[message[:1]], message[1:]
    try:
        asked = question.read(document)
    except InvalidProblem as error:
        # Looked for in the document itself, to be told beside whatever else is wrong with it.
        too_long = budget_faults(budget_seconds(document), longest_seconds)
        yield _faults((*error.faults, *too_long))
        return
    budget = getattr(asked, "budget", None)
    too_long = budget_faults(None if budget is None else budget.seconds, longest_seconds)
    if too_long:
        yield _faults(too_long)
        return
    question.prepare(asked)  # where nothing is compiled yet this takes a minute
    yield READY
    try:
        yield ANSWER + answer_bytes(question.solve(asked, time.monotonic))
    except InvalidProblem as error:
        yield _faults(error.faults)


def budget_faults(seconds: float | None, longest_seconds: float) -> tuple[Fault, ...]:
    """What is wrong with asking for so long; nothing where the problem doesn't say."""
    if seconds is None or seconds <= longest_seconds:
        return ()
    reason = f"this service solves for at most {longest_seconds:g} seconds"
    return (Fault(path="budget.seconds", value=f"{seconds:g}", reason=reason),)


def _faults(faults: tuple[Fault, ...]) -> bytes:
    found = [{"path": fault.path, "value": fault.value, "reason": fault.reason} for fault in faults]
    return FAULTS + json.dumps(found).encode()


def read(stream: BinaryIO) -> bytes | None:
    """The next message; None when the parent is gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    message = stream.read(length)
    return message if len(message) == length else None


def write(stream: BinaryIO, message: bytes) -> None:
    stream.write(LENGTH.pack(len(message)) + message)
    stream.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]))
