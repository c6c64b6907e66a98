"""Plans whenever something that planning knows has changed: a submission, an end, a node come or
gone."""

from app import signals
from app.planning.service import Planner

_LOOK_AGAIN_SECONDS = 30.0


class PlanningLoop:
    name = "planning"
    topic = signals.PLANNING

    def __init__(self, planner: Planner, debounce_seconds: float) -> None:
        self._planner = planner
        self.debounce_seconds = debounce_seconds
        self._trigger = "start"

    async def tick(self) -> float:
        done = await self._planner.run(self._trigger)
        self._trigger = "change"
        if done is not None and done.again:
            return 0.0
        soon = self._planner.changes_in_seconds
        return _LOOK_AGAIN_SECONDS if soon is None else min(soon, _LOOK_AGAIN_SECONDS)
