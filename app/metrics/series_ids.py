"""The numbers of series, as the telemetry store gave them."""

import asyncio
from collections.abc import Collection, Mapping

from app.db.samples.store import SampleStore, Subject

_REMEMBERED_MAX = 200_000


class SeriesIds:
    """Remembers them, and asks for those of many nodes at once: when a fleet comes up, each node's
    first report has new ones, and a transaction a node would keep all of them waiting."""

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._known: dict[Subject, int] = {}
        self._wanted: set[Subject] = set()
        self._asking = asyncio.Lock()

    async def of(self, subjects: Collection[Subject]) -> Mapping[Subject, int]:
        """At least those of ``subjects``; made where they're new.

        Raises:
            SQLAlchemyError: the store can't be asked.
        """
        while missing := {subject for subject in subjects if subject not in self._known}:
            self._wanted |= missing
            async with self._asking:
                # Whoever was here before us may have asked for ours as well.
                if not self._wanted.isdisjoint(missing):
                    await self._ask()
        return self._known

    async def _ask(self) -> None:
        wanted, self._wanted = self._wanted, set()
        try:
            given = await self._store.ensure_series(wanted)
        except BaseException:
            self._wanted |= wanted
            raise
        if len(self._known) > _REMEMBERED_MAX:
            self._known = {}  # most are of tasks that ended long ago
        self._known.update(given)
