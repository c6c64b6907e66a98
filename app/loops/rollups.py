"""Makes minutes of rows and hours of minutes, also of rows that come late."""

from app.clock import milliseconds
from app.db.samples.rolling import Roller
from app.db.samples.tables import HOUR, MINUTE, Kind
from app.deps import Context

_EVERY_SECONDS = 10.0
_STRAGGLERS_MS = 20_000
"""How long a minute stays open: agents ship what they gathered, and take a moment to do so."""
_QUIET_MS = 30_000
"""A late minute is folded anew when nothing has come for it for this long: a backlog comes in
many parts."""
_MINUTES_A_STEP, _HOURS_A_STEP, _LATE_A_TICK = 5, 1, 240


class RollupLoop:
    name = "rollups"
    topic = "rollups-loop"
    debounce_seconds = 0.0

    def __init__(self, ctx: Context, roller: Roller) -> None:
        self._ctx = ctx
        self._roller = roller

    async def tick(self) -> float:
        now_ms = milliseconds(self._ctx.clock.now())
        closed_ms = now_ms - _STRAGGLERS_MS
        more = False
        for resolution, stretches in ((MINUTE, _MINUTES_A_STEP), (HOUR, _HOURS_A_STEP)):
            for kind in Kind:
                more |= await self._roller.roll_up(
                    kind, resolution, closed_until_ms=closed_ms, stretches=stretches
                )
        late = await self._roller.roll_up_late(
            quiet_since_ms=now_ms - _QUIET_MS, limit=_LATE_A_TICK
        )
        return 0.1 if more or late == _LATE_A_TICK else _EVERY_SECONDS
