"""Solving in a child process, with a deadline that holds whatever the solver does."""

import asyncio
import contextlib
import json
import math
import sys
from typing import Any

from app import log
from app.errors import Fault, InvalidInputError, ServiceError
from app.planning.framing import FAULTS, LENGTH, READY
from app.planning.questions import QUESTIONS, SOLVE

_START_SECONDS = 60.0
"""Importing the solver takes a second; on a busy machine much longer. It happens before any
deadline counts."""
_LOAD_SECONDS = 300.0
"""Reading a problem takes seconds. Loading the compiled code takes one, or, where it was never
compiled or its cache is gone, the minute or two of compiling it."""
OVERRUN_SECONDS = 5.0
"""Beyond a problem's own budget: checking and writing. Then the child is killed."""


class ProblemTooLargeError(ServiceError):
    status = 422
    code = "problem_too_large"


class SolverProcess:
    """One warm child. Calls queue; a child that dies or overruns is replaced at the next call."""

    def __init__(self, name: str, longest_seconds: float) -> None:
        self._name = name
        self._longest_seconds = longest_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._log = log.get("solver")

    async def warm(self) -> None:
        """Start the child ahead of the first problem."""
        async with self._turn:
            await self._started()

    async def solve(self, problem: bytes, budget_seconds: float, question: str = SOLVE) -> bytes:
        """The answer's JSON. Raises InvalidInputError with every fault, or
        ProblemTooLargeError."""
        message = QUESTIONS[question].sign + problem
        async with self._turn:
            process = await self._started()
            try:
                async with asyncio.timeout(_LOAD_SECONDS):
                    message = await _exchange(process, message)
                if message == READY:
                    async with asyncio.timeout(budget_seconds + OVERRUN_SECONDS):
                        message = await _receive(process)
            except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
                await self._kill()
                overran = isinstance(error, TimeoutError)
                self._log.warning("solver_killed", child=self._name, overran=overran)
                raise ProblemTooLargeError(
                    "the solver's process "
                    + ("didn't keep its budget" if overran else "ended (out of memory?)")
                    + f" on a problem of {len(problem)} bytes: make it smaller or give it time"
                ) from error
            except asyncio.CancelledError:
                await self._kill()  # its answer would be taken for the next problem's
                raise
        if message[:1] == FAULTS:
            faults = tuple(Fault(**fault) for fault in json.loads(message[1:]))
            raise InvalidInputError(f"{len(faults)} fault(s) in the problem", faults=faults)
        return message[1:]

    async def close(self) -> None:
        await self._kill()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # nothing is imported from the directory that the service was started in
                "-m",
                "app.planning.worker",
                str(self._longest_seconds),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
            )
            try:
                async with asyncio.timeout(_START_SECONDS):
                    hello = await _receive(self._process)
            except (TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._kill()
                raise
            if hello != READY:
                raise RuntimeError(f"the solver's process said {hello[:40]!r} instead of {READY!r}")
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        _close_pipes(process)
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, message: bytes) -> bytes:
    assert process.stdin is not None  # noqa: S101 - it was started with a pipe
    process.stdin.write(LENGTH.pack(len(message)) + message)
    await process.stdin.drain()
    return await _receive(process)


async def _receive(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return await process.stdout.readexactly(length)


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    """asyncio closes a dead child's pipes some time later; a closed event loop would then
    complain."""
    transport: Any = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()


class SolverPool:
    """What the service solves with: one child for the planning loop, some for users'
    own questions (``POST /api/v1/solve`` and its like).

    The loop never waits behind a user's problem.
    """

    def __init__(self, concurrency: int, longest_seconds: float) -> None:
        self.planning = SolverProcess("planning", math.inf)  # its budget is the settings'
        self.timing = SolverProcess("timing", math.inf)
        """Says when who waits starts; a round never waits for it. Its child comes with the first
        question."""
        self._users = [
            SolverProcess(f"user-{number}", longest_seconds) for number in range(concurrency)
        ]
        self._idle: asyncio.Queue[SolverProcess] = asyncio.Queue()
        for process in self._users:
            self._idle.put_nowait(process)
        self.waiting = 0

    async def solve(self, problem: bytes, budget_seconds: float, question: str = SOLVE) -> bytes:
        self.waiting += 1
        try:
            process = await self._idle.get()
        finally:
            self.waiting -= 1
        try:
            return await process.solve(problem, budget_seconds, question)
        finally:
            self._idle.put_nowait(process)

    async def close(self) -> None:
        for process in (self.planning, self.timing, *self._users):
            await process.close()
