"""The watches over what runs: each judges by the same looks, and an attempt has one note of what
all of them say.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from agent.events import Event, Key, Overused
from agent.samples.sights import Sight
from agent.watches.gpu_watch import GpuWatch
from agent.watches.memory_watch import MemoryWatch
from protocol.desired import DesiredAllocation


class Notes:
    """Hands events on; what is said of overuse has everybody's words in it."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._words: dict[Key, dict[str, str]] = {}

    def by(self, watch: str) -> Callable[[Event], None]:
        """Where this watch is to tell its events."""

        def tell(event: Event) -> None:
            self._emit(self._together(watch, event) if isinstance(event, Overused) else event)

        return tell

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Forget the attempts that are over."""
        kept = set(keys)
        self._words = {key: words for key, words in self._words.items() if key in kept}

    def _together(self, watch: str, event: Overused) -> Overused:
        words = self._words.setdefault(event.key, {})
        words[watch] = event.what
        if event.stop:
            return event  # the reason is its own alone
        return replace(event, what="; ".join(what for what in words.values() if what))


class Watches:
    """To be used on the event loop's thread only. ``look_anew`` asks for a look at devices."""

    def __init__(
        self,
        *,
        emit: Callable[[Event], None],
        look_anew: Callable[[Iterable[str]], None],
        gpu_stop_seconds: float,
    ) -> None:
        self._notes = Notes(emit)
        self._memory = MemoryWatch(emit=self._notes.by("memory"))
        self._devices = GpuWatch(
            emit=self._notes.by("devices"), look_anew=look_anew, stop_seconds=gpu_stop_seconds
        )

    def seen(self, sight: Sight, running: Mapping[Key, DesiredAllocation], *, memory: bool) -> None:
        """Judge what runs by one look at this machine; its memory only where nothing else holds
        tasks to theirs.
        """
        self._notes.keep_only(running)
        if memory:
            asked_mib = {key: allocation.memory_mib for key, allocation in running.items()}
            self._memory.seen(sight, asked_mib)
        self._devices.seen(sight, running)
