"""What attempts print, as bytes with offsets that last: whatever was given up of the beginning, a
byte keeps its number, also for an agent that is started anew.

Normally what is given up becomes a hole (:mod:`agent.output.holes`). Where the file system can't
make any, the file is cut to its end, written anew: a task appends to it (``O_APPEND``), so it goes
on behind that, and ``output.base`` says which offset the file begins with now. What's written in
the instant of the cut is lost, or comes before the end; a crash in it makes offsets jump, but never
return.
"""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.events import Key
from agent.files import write_whole
from agent.output import holes
from agent.spool import Spool

_LINE_SOUGHT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes ``offset .. offset + len(data)`` of an output."""

    offset: int
    data: bytes


class Outputs:
    """The outputs of one node's attempts. Any thread may use it.

    A missing file is an empty one: the program hasn't been started, or is forgotten.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._cutting = threading.Lock()

    def end(self, key: Key) -> int:
        """The offset behind the last byte.

        Raises:
            OSError: it can't be read.
        """
        with self._cutting, suppress(FileNotFoundError):
            return self._base(key) + self._spool.output(key).stat().st_size
        return 0

    def read(self, key: Key, offset: int, count: int) -> Piece:
        """The first bytes that are there from an offset on; none at the end.

        Raises:
            OSError: it can't be read.
        """
        with (
            self._cutting,
            suppress(FileNotFoundError),
            self._spool.output(key).open("rb", buffering=0) as file,
        ):
            base = self._base(key)
            start = max(offset, base)
            size = os.fstat(file.fileno()).st_size
            if start - base < size:
                start = base + holes.data_from(file.fileno(), start - base)
            return Piece(offset=start, data=os.pread(file.fileno(), count, start - base))
        return Piece(offset=offset, data=b"")

    def line_from(self, key: Key, offset: int) -> int:
        """Where the first line from an offset on begins; the offset when no line ends near it.

        Raises:
            OSError: it can't be read.
        """
        piece = self.read(key, offset, _LINE_SOUGHT_BYTES)
        return piece.offset + piece.data.find(b"\n") + 1

    def cut(self, key: Key, keep: int) -> None:
        """Give up all but so many bytes of the end: for a file system without holes.

        Raises:
            OSError: it can't be done.
        """
        path = self._spool.output(key)
        with self._cutting, path.open("r+b", buffering=0) as file:
            kept_from = max(os.fstat(file.fileno()).st_size - keep, 0)
            base = self._base(key) + kept_from
            write_whole(path.with_name("output.base"), str(base).encode(), durable=False)
            kept = os.pread(file.fileno(), 2 * keep, kept_from)
            os.truncate(path, 0)
            _append(path, kept)

    def _base(self, key: Key) -> int:
        with suppress(FileNotFoundError, ValueError):
            return int(self._spool.output(key).with_name("output.base").read_text())
        return 0


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        while data:
            data = data[file.write(data) :]
