"""What happened to devices, on disk until the service has recorded it.

A file of lines: a head with the log's own name, then one numbered event a line, each synced before
it is told to anybody. The name is drawn when the file is made, and numbers go on over all runs of
the agent, so the service knows what it has heard already.
"""

import json
import os
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from agent.files import write_whole
from protocol.report import NumberedEvent
from telemetry.samples import DeviceEvent

EVENTS_PER_REPORT = 1024

log = structlog.get_logger("stowplan.agent")


class EventLog:
    """One log, which belongs to one agent at a time. Not shared between threads.

    Raises:
        OSError: the file is there and can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unsettled: deque[NumberedEvent] = deque()
        """On disk."""
        self._waiting: deque[NumberedEvent] = deque()
        """To be written yet."""
        self._file_bytes = 0
        """What of the file is good; 0 when it's to be made."""
        self.name = secrets.token_hex(16)
        self._next_seq = 1
        with suppress(FileNotFoundError):
            self._load(path.read_bytes())

    def add(self, events: Iterable[DeviceEvent]) -> None:
        """Number events and keep them in mind; they count once :meth:`sync` has returned."""
        for event in events:
            self._waiting.append(NumberedEvent(seq=self._next_seq, event=event))
            self._next_seq += 1

    def sync(self) -> bool:
        """Put on disk what isn't there yet; whether there was anything.

        Raises:
            OSError: it can't be written now. Nothing is lost: try again.
        """
        if not self._waiting:
            return False
        if self._file_bytes == 0:
            self._rewrite([*self._unsettled, *self._waiting])
        else:
            self._append(self._waiting)
        self._unsettled.extend(self._waiting)
        self._waiting.clear()
        return True

    def unsettled(self) -> tuple[NumberedEvent, ...]:
        """The oldest that the service hasn't recorded, as many as one report takes."""
        return tuple(self._unsettled)[:EVENTS_PER_REPORT]

    def settle(self, through_seq: int) -> bool:
        """Forget events that the service has recorded; whether there were any."""
        before = len(self._unsettled)
        while self._unsettled and self._unsettled[0].seq <= through_seq:
            self._unsettled.popleft()
        if len(self._unsettled) == before:
            return False
        try:
            self._rewrite(self._unsettled)
        except OSError as error:  # they're told once more after a restart: no harm
            log.warning("settled events were not removed", error=str(error))
        return True

    # The file.

    def _load(self, data: bytes) -> None:
        """Take in what an earlier run left. A line that was torn is the end of it."""
        lines = data.split(b"\n")
        good_bytes = 0
        try:
            head = json.loads(lines[0])
            self.name, self._next_seq = str(head["event_log"]), int(head["next_seq"])
            good_bytes = len(lines[0]) + 1
            whole = True
        except (ValueError, KeyError, TypeError):
            # Under a new name: which numbers the old one had used isn't known any more.
            log.warning("the event log has no head; going on under a new name")
            whole = False
        for line in lines[1:-1]:
            try:
                event = NumberedEvent.model_validate_json(line)
            except ValidationError:
                whole = False
                self._next_seq += 1  # its number may have been told
                continue
            self._unsettled.append(event)
            self._next_seq = max(self._next_seq, event.seq + 1)
            good_bytes += len(line) + 1
        self._file_bytes = good_bytes if whole else 0

    def _append(self, events: Iterable[NumberedEvent]) -> None:
        file = os.open(self._path, os.O_WRONLY)
        try:
            # What a write that failed half-way has left, or a crash.
            os.ftruncate(file, self._file_bytes)
            os.lseek(file, 0, os.SEEK_END)
            data = _lines(events)
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
        finally:
            os.close(file)
        self._file_bytes += len(data)

    def _rewrite(self, events: Iterable[NumberedEvent]) -> None:
        """The file with these events only, put in place whole."""
        kept = list(events)
        next_seq = kept[0].seq if kept else self._next_seq
        head = json.dumps({"event_log": self.name, "next_seq": next_seq}).encode() + b"\n"
        data = head + _lines(kept)
        write_whole(self._path, data)
        self._file_bytes = len(data)


def _lines(events: Iterable[NumberedEvent]) -> bytes:
    return b"".join(event.model_dump_json().encode() + b"\n" for event in events)
