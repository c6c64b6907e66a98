"""Long work on the event loop, in turns with what waits there: a fleet is long."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

WORK_SECONDS = 0.004
REST_SECONDS = 0.008
"""Long enough for a request to come through, with the several looks at the loop that it takes:
giving up the loop for one round only made each of them wait for a slice of the work."""
_ITEMS_A_LOOK = 16
"""At the clock."""


class Turns:
    """Works a few milliseconds at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def rest(self) -> None:
        """Let others have the loop, if it was ours for long enough."""
        if self._loop.time() - self._began >= WORK_SECONDS:
            await asyncio.sleep(REST_SECONDS)
            self._began = self._loop.time()


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, letting others have the loop every now and then."""
    turns = Turns()
    for count, item in enumerate(items, start=1):
        yield item
        if count % _ITEMS_A_LOOK == 0:
            await turns.rest()
