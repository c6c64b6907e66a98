"""A queue of records on disk, in files of bounded size: the oldest go for want of room.

A record is a line, with a checksum and how many rows it stands for::

    DIRECTORY/00000007.segment    CRC32 ROWS TAKEN_AT_MS PAYLOAD

What is torn or was damaged costs itself and nothing else. Nothing is synced: a crash of the machine
may cost the newest records, never the order of the others.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.files import open_private

_SUFFIX = ".segment"
# An eighth of the bound at most: what is given up for room is a whole file.
_SEGMENTS_MIN = 8
_SEGMENT_BYTES_MAX = 512 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``rows`` measurements, the newest taken at ``taken_at_ms``; the payload is one line."""

    rows: int
    taken_at_ms: int
    payload: bytes


@dataclass(slots=True, kw_only=True)
class _Segment:
    path: Path
    bytes: int
    records: deque[Record] | None = None
    """Those that are left, once the file was read."""


class Segments:
    """The records of one directory, which belongs to one agent at a time.

    ``give_up`` is told of rows that are lost: for want of room, or because they're too old.

    Raises:
        OSError: the directory can't be made or read.
    """

    def __init__(
        self,
        directory: Path,
        *,
        most_bytes: int,
        most_age_ms: int,
        give_up: Callable[[int], None],
    ) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._most_age_ms = most_age_ms
        self._segment_bytes = min(_SEGMENT_BYTES_MAX, most_bytes // _SEGMENTS_MIN)
        self._give_up = give_up
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._segments = deque(
            _Segment(path=path, bytes=path.stat().st_size)
            for path in sorted(directory.glob(f"*{_SUFFIX}"), key=_number)
            if _number(path)
        )
        self._next = _number(self._segments[-1].path) + 1 if self._segments else 1
        self._open = False
        """Whether the last segment takes more; one that was read, or left by another run, doesn't.
        """
        self._lent = 0

    def append(self, record: Record) -> None:
        """Put a record at the end, and give up what is too much or too old for it.

        Raises:
            OSError: it can't be written now, and wasn't.
        """
        body = b"%d %d %s" % (record.rows, record.taken_at_ms, record.payload)
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        if not (self._open and self._segments[-1].bytes + len(line) <= self._segment_bytes):
            path = self._directory / f"{self._next:08d}{_SUFFIX}"
            os.close(open_private(str(path), os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
            self._next += 1
            self._segments.append(_Segment(path=path, bytes=0))
            self._open = True
        last = self._segments[-1]
        _append_whole(last.path, last.bytes, line)
        last.bytes += len(line)
        self._make_room(record.taken_at_ms)

    def lend(self, count: int) -> tuple[Record, ...]:
        """The oldest records, at most so many; they stay until :meth:`remove`."""
        while count > 0 and self._segments:
            records = self._read_first()
            if records:
                lent = tuple(records)[:count]
                self._lent = len(lent)
                return lent
            self._drop_first()
        return ()

    def give_back(self) -> None:
        """What was lent stays where it is."""
        self._lent = 0

    def remove(self, lent: Sequence[Record]) -> None:
        """Forget records that were lent."""
        gone = {id(record) for record in lent}
        first = self._segments[0] if self._segments else None
        if first is None or first.records is None:
            return
        first.records = deque(record for record in first.records if id(record) not in gone)
        if not first.records:
            self._drop_first()

    @property
    def bytes(self) -> int:
        """What is on disk."""
        return sum(segment.bytes for segment in self._segments)

    def _make_room(self, now_ms: int) -> None:
        while len(self._segments) > 1 and not self._lent:
            first = self._segments[0]
            too_much = self.bytes > self._most_bytes
            if not too_much and not _is_older(self._read_first(), now_ms - self._most_age_ms):
                return
            self._give_up(sum(record.rows for record in self._read_first()))
            self._segments.popleft()
            with suppress(OSError):
                first.path.unlink()

    def _read_first(self) -> deque[Record]:
        first = self._segments[0]
        if first.records is None:
            if len(self._segments) == 1:
                self._open = False
            first.records = _read(first.path)
        return first.records

    def _drop_first(self) -> None:
        first = self._segments.popleft()
        self._open = self._open and bool(self._segments)
        with suppress(OSError):
            first.path.unlink()


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _is_older(records: Sequence[Record], than_ms: int) -> bool:
    return not records or records[-1].taken_at_ms < than_ms


def _append_whole(path: Path, end: int, line: bytes) -> None:
    """Write a line at ``end``; what of it was written before a failure is cut off, now or by the
    next one.
    """
    file = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(line):
            written += os.pwrite(file, line[written:], end + written)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, end)
        raise
    finally:
        os.close(file)


def _read(path: Path) -> deque[Record]:
    """The good records of a file; none of one that can't be read."""
    records: deque[Record] = deque()
    with suppress(OSError):
        for line in path.read_bytes().split(b"\n")[:-1]:
            checksum, _, body = line.partition(b" ")
            with suppress(ValueError):
                if int(checksum, 16) == zlib.crc32(body):
                    rows, taken_at_ms, payload = body.split(b" ", 2)
                    records.append(
                        Record(rows=int(rows), taken_at_ms=int(taken_at_ms), payload=payload)
                    )
    return records
