"""Learns from the runs that have ended: the model of how long tasks run is made anew."""

import asyncio

from app import log
from app.deps import Context
from app.durations import history
from app.durations.model import Model

_LOOK_SECONDS = 5.0
_FIT_SECONDS = 600.0
"""At least so often: what runs all the while tells something too."""
_NEWS = 0.01
"""Or when so much of the history is new."""
_log = log.get("durations")


class DurationLoop:
    name = "durations"
    topic = "durations-loop"
    debounce_seconds = 0.0

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._fitted_at: float | None = None
        self._ended = 0

    async def tick(self) -> float:
        durations = self._ctx.durations
        now = self._ctx.clock.monotonic()
        news = durations.ended - self._ended
        due = self._fitted_at is None or now - self._fitted_at >= _FIT_SECONDS
        if not due and (not news or news < _NEWS * durations.model.runs):
            return _LOOK_SECONDS
        ended = durations.ended
        async with self._ctx.database.read() as session:
            runs = await history.read(
                session, keep=self._ctx.settings.runs_keep, now=self._ctx.clock.now()
            )
        durations.model = await asyncio.to_thread(Model.fit, runs)
        self._fitted_at, self._ended = now, ended
        _log.info("fitted", runs=len(runs), seconds=round(self._ctx.clock.monotonic() - now, 3))
        return _LOOK_SECONDS
