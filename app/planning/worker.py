"""The solver's child process: problems come in on standard input, plans go out on standard output.

A process that may be killed at any moment is the only real deadline that compiled solvers obey.
"""

import json
import sys
import time
from typing import BinaryIO

from app.planning.documents import parse_problem, plan_bytes
from app.planning.framing import FAULTS, LENGTH, PLAN, READY
from solver.errors import InvalidProblem
from solver.solve import solve


def main() -> None:
    inbox, outbox = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not break the framing
    write(outbox, READY)
    while (message := read(inbox)) is not None:
        write(outbox, answer(message))


def answer(message: bytes) -> bytes:
    """The plan, or every fault of the problem."""
    try:
        return PLAN + plan_bytes(solve(parse_problem(message), clock=time.monotonic))
    except InvalidProblem as error:
        faults = [
            {"path": fault.path, "value": fault.value, "reason": fault.reason}
            for fault in error.faults
        ]
        return FAULTS + json.dumps(faults).encode()


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
    main()
