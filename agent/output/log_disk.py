"""Keeps what tasks print within bounds on the node's disk: the oldest is given up, by holes.

A task writes to its files by itself, so the bound can only be kept by looking: between two looks a
file may outgrow it by what the task writes in that time (:data:`FAST_LOOK_SECONDS` once it's seen
to write fast). A torchrun task has files of its ranks besides its output (``ranks/``); they share
the attempt's room.
"""

import asyncio
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from agent.events import Key
from agent.output import holes
from agent.output.outputs import Outputs
from agent.processes import descendants
from agent.spool import Spool

LOOK_SECONDS = 0.5
FAST_LOOK_SECONDS = 0.05
_FAST_SHARE = 16
"""An attempt that has grown by this part of its room since the last look writes fast."""
_KEPT_OF_ROOM = 0.75
"""What is left when the room was exceeded: holes aren't to be made at every look."""
_LEAST_ROOM_BYTES = 128 << 10
_RANK_FILES_MAX = 4096
_MARK_EVERY_BYTES = 1 << 20
"""torchrun reads its ranks' files by lines. In what it hasn't read yet a block in each MiB is left:
a hole of gigabytes would be one line, in its memory."""
_LOW_DISK_BYTES = 64 << 20
_ROOM_ON_LOW_DISK_BYTES = 8 << 20
"""As much as the service keeps: nothing is lost to a reader there."""
_FULL_DISK_BYTES = 64 << 10
_KEPT_BY_CUT_BYTES = 1 << 20
"""Copied while the program writes on: the less, the less of that is lost."""

log = structlog.get_logger("stowplan.agent")


@dataclass(slots=True)
class _Watched:
    """One attempt, as it was at the last look."""

    room_taken: int = 0
    readers: Sequence[int] = ()
    """Processes that read the ranks' files: torchrun."""
    marked: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    """By device and inode, how far the file is a hole with marks."""
    note: str = ""


class LogDisk:
    """Looks after the outputs of one node's attempts."""

    def __init__(self, *, spool: Spool, outputs: Outputs, most_bytes: int) -> None:
        self._spool = spool
        self._outputs = outputs
        self._most_bytes = most_bytes
        self._watched: dict[Key, _Watched] = {}

    async def run(self, attempts: Callable[[], Iterable[Key]]) -> None:
        """Look again and again, in a thread: a disk that is slow delays nothing else."""
        while True:
            pause = await asyncio.to_thread(self.look, tuple(attempts()))
            await asyncio.sleep(pause)

    def look(self, attempts: Sequence[Key]) -> float:
        """Bring all attempts back within their room; how soon to look again, in seconds."""
        for gone in self._watched.keys() - set(attempts):
            self._watched.pop(gone, None)
        free = _free_bytes(self._spool.root)
        most = self._most_bytes
        if free is not None and free < _LOW_DISK_BYTES:
            most = min(most, _ROOM_ON_LOW_DISK_BYTES)
        fast = False
        for key in attempts:
            watched = self._watched.setdefault(key, _Watched())
            try:
                fast = self._look_at(key, watched, most) or fast
            except OSError as error:
                _note(key, watched, f"its output can't be bounded on this node: {error.strerror}")
            if free is not None and free < _FULL_DISK_BYTES:
                _note(key, watched, f"the disk of {self._spool.root} was full: output may be lost")
        return FAST_LOOK_SECONDS if fast else LOOK_SECONDS

    def note(self, key: Key) -> str:
        """What a person should know of an attempt's output; empty when all is well."""
        watched = self._watched.get(key)
        return watched.note if watched else ""

    def _look_at(self, key: Key, watched: _Watched, most: int) -> bool:
        """Whether it writes fast."""
        output = self._spool.output(key)
        try:
            taken = holes.room(output.stat())
        except FileNotFoundError:
            return False
        ranks = [(found, holes.room(found)) for _, _, found in _rank_files(self._spool.ranks(key))]
        room_taken = taken + sum(room for _, room in ranks)
        fast = room_taken - watched.room_taken > most // _FAST_SHARE
        if room_taken > most:
            of_output = most // 2 if ranks else most
            if taken > of_output:
                self._bound_output(key, watched, int(of_output * _KEPT_OF_ROOM))
            of_rank = max(most // 2 // max(len(ranks), 1), _LEAST_ROOM_BYTES)
            if any(room > of_rank for _, room in ranks):
                self._bound_ranks(key, watched, of_rank)
            room_taken = int(most * _KEPT_OF_ROOM)
            fast = True
        watched.room_taken = room_taken
        return fast

    def _bound_output(self, key: Key, watched: _Watched, keep: int) -> None:
        with self._spool.output(key).open("r+b", buffering=0) as file:
            try:
                holes.punch(file.fileno(), 0, os.fstat(file.fileno()).st_size - keep)
            except holes.NoHolesError:
                self._outputs.cut(key, min(keep, _KEPT_BY_CUT_BYTES))
            else:
                return
        _note(
            key, watched, "this node's file system can't make holes: its older output was cut off"
        )

    def _bound_ranks(self, key: Key, watched: _Watched, room: int) -> None:
        for name, folder, found in _rank_files(self._spool.ranks(key)):
            if holes.room(found) <= room:
                continue
            with _own_file(name, folder) as fd:
                if fd is None:
                    continue
                end = found.st_size - int(room * _KEPT_OF_ROOM)
                try:
                    self._give_up(key, watched, fd, found, end)
                except holes.NoHolesError:
                    # The writer goes on at its own offset: what is before becomes a hole, where
                    # the file system knows those at least.
                    os.ftruncate(fd, 0)

    def _give_up(
        self, key: Key, watched: _Watched, fd: int, found: os.stat_result, end: int
    ) -> None:
        """Make a hole up to ``end``, with marks in what is still to be read."""
        file = (found.st_dev, found.st_ino)
        read = self._read_up_to(key, watched, found)
        wholly = end if read is None else min(read, end)
        holes.punch(fd, 0, wholly)
        start = max(wholly, watched.marked.get(file, 0))
        start = -(-start // _MARK_EVERY_BYTES) * _MARK_EVERY_BYTES
        for begin in range(start, end - _MARK_EVERY_BYTES + 1, _MARK_EVERY_BYTES):
            holes.punch(fd, begin, begin + _MARK_EVERY_BYTES - holes.BLOCK_BYTES)
            watched.marked[file] = begin + _MARK_EVERY_BYTES

    def _read_up_to(self, key: Key, watched: _Watched, found: os.stat_result) -> int | None:
        position = holes.read_up_to(found, watched.readers)
        if position is not None:
            return position
        running = self._spool.running(key)
        if running is None:
            return None
        for pid in descendants(running.shim.pid):
            position = holes.read_up_to(found, [pid])
            if position is not None:
                watched.readers = [pid]
                return position
        return None


def _rank_files(folder: Path) -> Iterator[tuple[str, int, os.stat_result]]:
    """(name, its folder's descriptor, what it is) of plain files below a folder that belongs to a
    task: no link is followed, and none that has a second name is touched.
    """
    if not folder.is_dir():
        return
    count = 0
    for _, _, names, fd in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                yield name, fd, found
            count += 1
            if count == _RANK_FILES_MAX:
                return


@contextmanager
def _own_file(name: str, folder: int) -> Iterator[int | None]:
    """A descriptor of what :func:`_rank_files` has seen; None when it's something else by now."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        yield None
        return
    try:
        found = os.fstat(fd)
        yield fd if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else None
    finally:
        os.close(fd)


def _free_bytes(path: Path) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    # One that is made of memory alone may know of no blocks.
    return found.f_bavail * found.f_frsize if found.f_blocks else None


def _note(key: Key, watched: _Watched, text: str) -> None:
    if watched.note != text:
        watched.note = text
        log.warning("output", allocation=key.id, generation=key.generation, note=text)
