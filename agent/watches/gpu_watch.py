"""Warns tasks that overuse devices, and has those stopped that are to be
(:mod:`agent.watches.overuse`).
"""

from collections.abc import Callable, Iterable, Mapping

from agent.events import Event, Key, Overused
from agent.samples.sights import Sight
from agent.watches.overuse import Overuses
from protocol.desired import DesiredAllocation


class GpuWatch:
    """To be used on the event loop's thread only. ``look_anew`` asks for a look at devices."""

    def __init__(
        self,
        *,
        emit: Callable[[Event], None],
        look_anew: Callable[[Iterable[str]], None],
        stop_seconds: float,
    ) -> None:
        self._emit = emit
        self._look_anew = look_anew
        self._overuses = Overuses(stop_seconds=stop_seconds)

    def seen(self, sight: Sight, running: Mapping[Key, DesiredAllocation]) -> None:
        """Judge what runs by one look at this machine."""
        judgement = self._overuses.judge(sight, running)
        if judgement.doubtful:
            self._look_anew(judgement.doubtful)
        for said in judgement.said:
            self._emit(Overused(at=sight.at, key=said.key, what=said.what, stop=said.stop))
