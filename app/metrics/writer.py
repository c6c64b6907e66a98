"""The one writer of measurements: what came in a moment is one transaction, each batch once."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from app import log
from app.clock import Clock, milliseconds
from app.db.samples.store import Row, SampleStore, Writing
from app.db.samples.tables import Kind
from app.errors import OverloadedError
from app.heartbeats import Pace
from app.ranges import Ranges

_log = log.get("samples")
_ROWS_WORTH_A_COMMIT = 1_500
"""With fewer the writer waits a moment for more: a commit costs a sync of the disk."""
_ROWS_A_COMMIT = 5_000
_RUNS_REMEMBERED_MAX = 64
"""Of one node's agent."""


class StoreUnavailableError(OverloadedError):
    """The store can't be written now; nothing of the report is stored."""

    status = 503
    code = "telemetry_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch's rows, ready to be stored."""

    epoch: str
    seq: int
    rows: dict[Kind, list[Row]]

    @property
    def size(self) -> int:
        return sum(map(len, self.rows.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of a report's batches; ``fresh`` had not been stored before."""

    rows: int
    fresh: tuple[Batch, ...]
    duplicates: int


@dataclass(slots=True)
class _Waiting:
    node: str
    batches: Sequence[Batch]
    size: int
    answer: "asyncio.Future[Stored]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Writer:
    """Takes batches in, answers when they are stored. Bounded: beyond it, agents keep theirs."""

    def __init__(self, store: SampleStore, clock: Clock, pace: Pace, *, rows_max: int) -> None:
        self._store = store
        self._pace = pace
        self._clock = clock
        self._rows_max = rows_max
        self._waiting: deque[_Waiting] = deque()
        self._waiting_rows = 0
        self._news = asyncio.Event()
        self._received: dict[str, dict[str, Ranges]] | None = None
        """By node and epoch. None: not known, or not for certain since a write failed."""
        self._task: asyncio.Task[None] | None = None
        self.rows_stored = 0
        self.refused = 0
        self.failures = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="samples-writer")

    async def stop(self) -> None:
        """Store what was taken in, then end."""
        if self._task is None:
            return
        while self._waiting:
            await self._commit_some()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def fill(self) -> float:
        """How full the queue is, 0..1."""
        return self._waiting_rows / self._rows_max

    def forget_received(self) -> None:
        """Old runs were dropped from the store: look there again."""
        self._received = None

    async def store(self, node: str, batches: Sequence[Batch]) -> Stored:
        """Returns once all of them are stored, now or before.

        Raises:
            OverloadedError: the queue is full.
            StoreUnavailableError: the store can't be written.
        """
        size = sum(batch.size for batch in batches)
        if self._waiting_rows and self._waiting_rows + size > self._rows_max:
            self.refused += 1
            raise OverloadedError(
                f"{self._waiting_rows} rows wait to be stored already: keep yours",
                retry_after_seconds=2,
            )
        waiting = _Waiting(node, batches, size)
        self._waiting.append(waiting)
        self._waiting_rows += size
        self._news.set()
        return await waiting.answer

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                # Also between two commits: a request waits as long for its own as for a shared one.
                if self._waiting_rows < _ROWS_WORTH_A_COMMIT:
                    await asyncio.sleep(self._pace.linger_seconds)
                await self._commit_some()

    async def _commit_some(self) -> None:
        taken: list[_Waiting] = []
        rows = 0
        while self._waiting and (not taken or rows + self._waiting[0].size <= _ROWS_A_COMMIT):
            taken.append(self._waiting.popleft())
            rows += taken[-1].size
        try:
            answers = await self._commit(taken)
        except Exception as error:  # noqa: BLE001  whatever it was, the next ones must be written
            # Whether it was committed nobody knows: what is stored is read again before more is.
            self._received = None
            self.failures += 1
            for waiting in taken:
                _fail(waiting.answer)
            expected = isinstance(error, SQLAlchemyError | OSError)
            _log.error(
                "samples_not_stored",
                rows=rows,
                reason=str(error).partition("\n")[0],
                exc_info=None if expected else error,
            )
        else:
            for waiting, answer in zip(taken, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
        finally:
            self._waiting_rows -= rows

    async def _commit(self, taken: Sequence[_Waiting]) -> list[Stored]:
        if self._received is None:
            self._received = {}
            self._adopt(await self._store.received_batches())
        writing = Writing()
        answers = []
        for waiting in taken:
            fresh = [
                batch for batch in waiting.batches if self._is_fresh(writing, waiting.node, batch)
            ]
            for batch in fresh:
                for kind, rows in batch.rows.items():
                    writing.rows[kind].extend(rows)
            answers.append(
                Stored(
                    rows=sum(batch.size for batch in fresh),
                    fresh=tuple(fresh),
                    duplicates=len(waiting.batches) - len(fresh),
                )
            )
        if writing.received:
            now_ms = milliseconds(self._clock.now())
            await self._store.write(writing, now_ms=now_ms)
            self._adopt(writing.received)
            self.rows_stored += sum(answer.rows for answer in answers)
        return answers

    def _adopt(self, received: dict[tuple[str, str], Ranges]) -> None:
        """It's stored. An agent that is started over and over has a new run each time: the oldest
        of them have nothing more to say."""
        assert self._received is not None  # noqa: S101  the caller looked
        for (node, epoch), ranges in received.items():
            runs = self._received.setdefault(node, {})
            runs[epoch] = ranges
            if len(runs) > _RUNS_REMEMBERED_MAX:
                del runs[next(iter(runs))]

    def _is_fresh(self, writing: Writing, node: str, batch: Batch) -> bool:
        """Whether it's new, and if so note that it won't be."""
        assert self._received is not None  # noqa: S101  the caller looked
        of = (node, batch.epoch)
        ranges = writing.received.get(of)
        if ranges is None:
            known = self._received.get(node, {}).get(batch.epoch)
            ranges = known.copy() if known is not None else Ranges()
        if batch.seq in ranges:
            return False
        ranges.add(batch.seq)
        writing.received[of] = ranges
        return True


def _fail(answer: "asyncio.Future[Stored]") -> None:
    if not answer.done():
        answer.set_exception(
            StoreUnavailableError(
                "the telemetry store can't be written now; nothing of this is stored",
                retry_after_seconds=5,
            )
        )
