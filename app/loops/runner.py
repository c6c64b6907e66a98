"""Runs the loops: wakes them at news or after a while, and keeps one that fails from stopping the
rest."""

import asyncio
import contextlib
from typing import Protocol

from app import log, signals
from app.signals import Signals

_log = log.get("loops")
_BACK_OFF_SECONDS = (0.1, 0.5, 2.0, 10.0)


class Loop(Protocol):
    name: str
    topic: str
    """News of this topic wakes the loop before its time."""
    debounce_seconds: float
    """How long it then waits for more news, so that a burst is one tick."""

    async def tick(self) -> float:
        """One pass; gives the seconds after which to look again without news."""
        ...


async def run(loop: Loop, signals_: Signals) -> None:
    """Tick for ever. A tick that fails is logged and tried again, ever later."""
    failures = 0
    while not signals_.closed:
        ticket = signals_.ticket(loop.topic)
        try:
            pause = await loop.tick()
            failures = 0
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the other rounds must go on
            _log.exception("tick_failed", loop=loop.name)
            await asyncio.sleep(_BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)])
            failures += 1
            continue
        if await signals.wait(ticket, pause) and loop.debounce_seconds:
            await asyncio.sleep(loop.debounce_seconds)


class Runner:
    """Holds the loops' tasks from start to stop."""

    def __init__(self, loops: list[Loop], signals_: Signals) -> None:
        self._loops = loops
        self._signals = signals_
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(run(loop, self._signals), name=loop.name) for loop in self._loops
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
