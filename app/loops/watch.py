"""Looks at what is measured, now and then, and acts on what it means."""

from app.watch.service import Watcher


class WatchLoop:
    name = "watch"
    topic = "watch-loop"
    debounce_seconds = 0.0

    def __init__(self, watcher: Watcher, every_seconds: float) -> None:
        self._watcher = watcher
        self._every_seconds = every_seconds

    async def tick(self) -> float:
        await self._watcher.look()
        return self._every_seconds
