"""Long work on the event loop, in turns with what waits there: a fleet is long."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

AT_ONCE = 250
"""A few milliseconds of any of the work here."""


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, letting others have the loop every now and then."""
    for count, item in enumerate(items, start=1):
        yield item
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
