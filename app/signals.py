"""Waking those who wait in this process: long polls, event streams, background loops."""

import asyncio

TASKS = "tasks"
EVENTS = "events"
PLANNING = "planning"
SAMPLES = "samples"
CLOSING = "closing"
"""Has no news but that the service stops, as every topic then has."""


def node_topic(node_id: int) -> str:
    return f"node:{node_id}"


def log_topic(allocation_id: str) -> str:
    return f"log:{allocation_id}"


class Signals:
    """Wakes those who wait for news of a topic. Carries no news itself: the woken look into the
    database.

    A waiter takes its ticket *before* it looks, so that nothing falls between the look and the
    wait.
    """

    def __init__(self) -> None:
        self._tickets: dict[str, asyncio.Event] = {}
        self._closed = False

    def ticket(self, topic: str) -> asyncio.Event:
        """An event that is set at the topic's next news."""
        if self._closed:
            done = asyncio.Event()
            done.set()
            return done
        return self._tickets.setdefault(topic, asyncio.Event())

    def notify(self, *topics: str) -> None:
        """Call after the commit: a waiter that looks sooner would see the old state."""
        for topic in topics:
            ticket = self._tickets.pop(topic, None)
            if ticket is not None:
                ticket.set()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Wake everybody for good: held requests would otherwise keep a stopping server alive."""
        self._closed = True
        self.notify(*self._tickets)


class Seen:
    """What a look at the database found that can't have changed: nothing was told of it since.

    A waiter that comes again with the ticket of its last look needn't look again. Not for ever:
    should news have been lost, the next look makes up for it.
    """

    def __init__(self, *, believed_seconds: float) -> None:
        self._believed_seconds = believed_seconds
        self._seen: dict[int, tuple[asyncio.Event, int, float]] = {}

    def note(self, key: int, ticket: asyncio.Event, found: int, now: float) -> None:
        """``ticket`` was taken before the look."""
        self._seen[key] = (ticket, found, now)

    def still(self, key: int, ticket: asyncio.Event, now: float) -> int | None:
        """What was found, if that holds; None when somebody has to look."""
        seen = self._seen.get(key)
        if seen is None or seen[0] is not ticket or now - seen[2] > self._believed_seconds:
            return None
        return seen[1]


async def wait(ticket: asyncio.Event, seconds: float) -> bool:
    """Wait for a ticket; False when the time ran out."""
    try:
        async with asyncio.timeout(max(seconds, 0)):
            await ticket.wait()
    except TimeoutError:
        return False
    return True
