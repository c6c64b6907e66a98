"""Writes down what queues have used, now and then: what has been held since is reckoned when it's
asked for."""

from app import signals
from app.deps import Context
from app.queues import usage

_EVERY_SECONDS = 60.0


class UsageLoop:
    name = "usage"
    topic = signals.CLOSING
    debounce_seconds = 0.0

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def tick(self) -> float:
        async with self._ctx.database.write() as session:
            await usage.catch_up(
                session,
                now=self._ctx.clock.now(),
                half_life_seconds=self._ctx.settings.usage_half_life_seconds,
            )
        return _EVERY_SECONDS
