"""Batches of measurements until the service has them: the newest in memory, older ones on disk.

A batch that is taken within its window never touches the disk. The spool is bounded: when the
service is away for long the oldest are given up, and counted. On a full disk a few are kept in
memory.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import ValidationError

from agent.samples.segments import Record, Segments
from agent.samples.windows import newest_ms, row_count
from protocol.samples import BATCHES_MAX, SampleBatch

MOST_AGE_MS = 24 * 3600 * 1000
_IN_MEMORY_MAX = 64

log = structlog.get_logger("stowplan.agent")


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A batch that is being sent, and where it came from."""

    batch: SampleBatch
    record: Record | None = None
    """None: from memory."""


class SampleSpool:
    """The batches of one node. Not shared between threads.

    Raises:
        OSError: its directory can't be made or read.
    """

    def __init__(self, directory: Path, *, most_bytes: int, most_age_ms: int = MOST_AGE_MS) -> None:
        self.dropped_rows = 0
        """Given up since the agent was started."""
        self._segments = Segments(
            directory, most_bytes=most_bytes, most_age_ms=most_age_ms, give_up=self._give_up
        )
        self._in_memory: deque[SampleBatch] = deque()
        """Newer than all on disk, in order."""
        self._in_flight: tuple[Taken, ...] = ()
        self._disk_works = True

    def add(self, batch: SampleBatch) -> None:
        """Take the newest batch in; those that wait and aren't on their way go to disk."""
        self._put_on_disk()
        self._in_memory.append(batch)

    def take(self, *, backlog: int, most: int = BATCHES_MAX) -> tuple[Taken, ...]:
        """What to send now, ``most`` batches at most: those in memory, the newest first, and then
        at most ``backlog`` of the oldest on disk. One from disk if there is nothing else.

        They stay in the spool until :meth:`settle`; :meth:`release` ends what this began.
        """
        live = [Taken(batch) for batch in reversed(self._in_memory)][:most]
        count = min(backlog, most - len(live)) if live else max(1, min(backlog, most))
        self._in_flight = (*live, *self._from_disk(count))
        return self._in_flight

    def settle(self, taken: Sequence[Taken]) -> None:
        """The service has these."""
        names = {(one.batch.epoch, one.batch.seq) for one in taken if one.record is None}
        self._in_memory = deque(
            batch for batch in self._in_memory if (batch.epoch, batch.seq) not in names
        )
        self._segments.remove([one.record for one in taken if one.record is not None])

    def drop(self, taken: Sequence[Taken]) -> None:
        """The service doesn't want these, and never will."""
        self._give_up(sum(row_count(one.batch) for one in taken))
        self.settle(taken)

    def release(self) -> None:
        """Nothing is on its way any more: what wasn't settled waits for the next time."""
        self._in_flight = ()
        self._segments.give_back()

    def close(self) -> None:
        """Leave to the next run of the agent what the service doesn't have yet."""
        self.release()
        self._put_on_disk()

    def _from_disk(self, count: int) -> list[Taken]:
        taken = []
        for record in self._segments.lend(count):
            try:
                taken.append(Taken(SampleBatch.model_validate_json(record.payload), record))
            except ValidationError:  # written by an agent that measured other things
                self._give_up(record.rows)
                self._segments.remove([record])
        return taken

    def _put_on_disk(self) -> None:
        """Those in memory that aren't on their way, the oldest first, as far as there is room."""
        on_their_way = {(t.batch.epoch, t.batch.seq) for t in self._in_flight}
        kept: deque[SampleBatch] = deque()
        while self._in_memory:
            batch = self._in_memory.popleft()
            if kept or (batch.epoch, batch.seq) in on_their_way or not self._written(batch):
                kept.append(batch)
        while len(kept) > _IN_MEMORY_MAX:
            self._give_up(row_count(kept.popleft()))
        self._in_memory = kept

    def _written(self, batch: SampleBatch) -> bool:
        payload = batch.model_dump_json(exclude_defaults=True).encode()
        record = Record(rows=row_count(batch), taken_at_ms=newest_ms(batch), payload=payload)
        try:
            self._segments.append(record)
        except OSError as error:
            if self._disk_works:
                log.warning("measurements can't be kept on disk", error=str(error))
            self._disk_works = False
            return False
        self._disk_works = True
        return True

    def _give_up(self, rows: int) -> None:
        self.dropped_rows += rows
