"""Reckons anew when those who wait start, whenever a task has come, started or ended."""

from app import signals
from app.errors import ServiceError
from app.log import get
from app.planning.eta import Etas

_LOOK_AGAIN_SECONDS = 60.0
_PART = 5.0
"""At most one part in so many of the time is spent reckoning."""
_log = get("etas")


class EtaLoop:
    name = "etas"
    topic = signals.TASKS

    def __init__(self, etas: Etas, debounce_seconds: float) -> None:
        self._etas = etas
        self._shortest_seconds = debounce_seconds
        self.debounce_seconds = debounce_seconds

    async def tick(self) -> float:
        try:
            await self._etas.refresh()
        except ServiceError as error:
            _log.warning("not_reckoned", reason=error.detail)
        self.debounce_seconds = max(self._shortest_seconds, _PART * self._etas.seconds)
        return _LOOK_AGAIN_SECONDS
