"""Watches what tasks use of the host's memory where the kernel doesn't hold them to it: warns, and
has those stopped that stay over what they asked for. A look a second comes too late for a program
that takes everything at once: who must rely on it demands ``enforce: memory``."""

from collections.abc import Callable, Mapping

from agent.confining.limits import Verdict, judge_memory
from agent.events import Event, Key, Overused
from agent.samples.sights import Sight


class MemoryWatch:
    """To be used on the event loop's thread only."""

    def __init__(self, *, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._over_since: dict[Key, float] = {}

    def seen(self, sight: Sight, asked_mib: Mapping[Key, int]) -> None:
        """Judge what runs by one look at this machine. A task that wasn't seen is left as it is."""
        self._over_since = {k: since for k, since in self._over_since.items() if k in asked_mib}
        for key, asked in asked_mib.items():
            reading = sight.tasks.get(key.id)
            used = reading.sample.memory_mib if reading else None
            if used is not None:
                self._judge(key, sight, used, asked)

    def _judge(self, key: Key, sight: Sight, used_mib: float, asked_mib: int) -> None:
        now = sight.at.boot_seconds
        since = self._over_since.get(key)
        verdict = judge_memory(
            used_mib, asked_mib, over_seconds=0.0 if since is None else now - since
        )
        if verdict is Verdict.FINE:
            if since is not None:
                del self._over_since[key]
                self._emit(Overused(at=sight.at, key=key, what=""))
            return
        self._over_since.setdefault(key, now)
        if since is None or verdict is Verdict.STOP:  # a warning is given once
            used = f"it uses {used_mib:,.0f} MiB of memory"
            what = f"{used} and asked for {asked_mib:,} MiB (memory_mib)"
            stop = verdict is Verdict.STOP
            self._emit(Overused(at=sight.at, key=key, what=what, stop=stop))
