"""Watches the nodes that are drained: who comes too late is asked to leave too, and who is there at
the deadline is killed.
"""

from datetime import datetime

from app import signals
from app.deps import Context
from app.leases import drains

_LOOK_AGAIN_SECONDS = 60.0


class DrainLoop:
    name = "drains"
    topic = signals.TASKS
    debounce_seconds = 0.2

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._killed: dict[int, datetime] = {}
        """By node, the deadline at which it was told that time is up. Told again after a
        restart."""

    async def tick(self) -> float:
        async with self._ctx.database.read() as session:
            nodes = {node.id: node.drain_until for node in await drains.draining(session)}
        self._killed = {node: at for node, at in self._killed.items() if nodes.get(node) == at}
        if not nodes:
            return _LOOK_AGAIN_SECONDS
        topics: set[str] = set()
        async with self._ctx.database.write() as session:
            for node in await drains.draining(session):
                assert node.drain_until is not None  # noqa: S101 - that is how they are found
                held = await drains.tasks_on(session, node.id)
                until = node.drain_until
                if held and drains.is_overdue(self._ctx, node) and node.id not in self._killed:
                    topics |= await drains.kill_rest(session, node)
                    self._killed[node.id] = until
                topics |= await drains.advance(self._ctx, session, node, held)
        self._ctx.signals.notify(*topics)
        now = self._ctx.clock.now()
        due = [(until - now).total_seconds() for until in nodes.values() if until and until > now]
        return min([_LOOK_AGAIN_SECONDS, *due])
